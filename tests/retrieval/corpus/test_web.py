"""Against a real web server on this machine."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from retrieval.corpus import web as web_images
from retrieval.corpus.remote import read, scan
from retrieval.errors import ImageError


class Answers(BaseHTTPRequestHandler):
    """By path: /a.jpg, /404, /503, /once (503 the first time), /short, /moved, /slow and /headers (never end)"""

    def do_GET(self):
        asked = self.server.asked
        asked.append(self.path)
        self.server.credentials.append(self.headers["Authorization"])
        path = self.path.partition("?")[0]
        if path == "/short":
            self.reply(200, b"abc", length=9)
        elif path == "/slow":
            self.reply(200, b"", length=99)
            while not self.server.over.wait(0.05):
                self.wfile.write(b".")
        elif path == "/headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not self.server.over.wait(0.05):
                self.wfile.write(b".")
        elif path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/a.jpg")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path[1:].isdigit() or (path == "/once" and asked.count("/once") == 1):
            self.reply(int(path[1:]) if path[1:].isdigit() else 503, b"sorry")
        else:
            self.reply(200, self.server.image)

    def reply(self, status, content, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def web(jpeg, monkeypatch):
    """A server; web.at("/a.jpg") is a link to it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(web_images, "PAUSE_SECONDS", 0.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.credentials = [], []
    server.image, server.over = jpeg("red"), threading.Event()
    server.handle_error = lambda *_: None  # of clients that hang up
    server.at = lambda path: f"http://127.0.0.1:{server.server_port}{path}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def refusal(uri):
    with pytest.raises(ImageError) as caught:
        read(uri)
    return str(caught.value)


@pytest.mark.parametrize("path", ["/a.jpg", "/with space/ü.jpg?x=1&y=%20", "/moved", "/once"])
def test_an_image(web, path):
    assert read(web.at(path)) == web.image


def test_a_name_and_password_go_to_that_server_alone(web):
    assert read(web.at("/moved").replace("//", "//me:p%40ss@")) == web.image
    assert web.credentials == ["Basic bWU6cEBzcw==", None]


def test_a_scan_asks_nothing(web):
    result = scan(web.at("/x/a.jpg?size=2"))
    [image] = result.images
    assert (image.state.path, image.state.size, image.state.mtime_ns) == (web.at("/x/a.jpg?size=2"), -1, 0)
    assert (image.relative, result.roots, web.asked) == ("a.jpg?size=2", [], [])


@pytest.mark.parametrize(("path", "reason", "tries"), [
    ("/404", "the server answers 404 (Not Found)", 1),
    ("/403", "the server answers 403 (Forbidden)", 1),
    ("/503", "the server answers 503 (Service Unavailable)", 2),
    ("/short", "the server broke off", 2),
])
def test_what_passes_is_tried_twice(web, path, reason, tries):
    assert refusal(web.at(path)) == reason
    assert web.asked == [path] * tries


def test_a_server_that_is_silent(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(web_images, "SILENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert refusal(f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg") == "no answer within 0.1 seconds"


@pytest.mark.parametrize("path", ["/slow", "/headers"])
def test_a_server_that_never_ends(web, monkeypatch, path):
    monkeypatch.setattr(web_images, "TOTAL_SECONDS", 0.2)
    assert refusal(web.at(path)) == "not all of it came within 0.2 seconds"


def test_no_server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert refusal(f"http://127.0.0.1:{port}/a.jpg") == "cannot be fetched: Connection refused"
    assert refusal("http://no-such-host.invalid/a.jpg") == "there is no such server, or no network"


def test_more_than_an_image_can_be(web, monkeypatch):
    monkeypatch.setattr(web_images, "MOST_BYTES", 100)
    assert refusal(web.at("/a.jpg")) == "larger than 0 MiB"


@pytest.mark.parametrize("uri", ["http://[1/a.jpg", "http://host:port/a.jpg"])
def test_no_link_at_all(uri):
    assert refusal(uri).startswith("not a link that can be followed (")
    assert scan(uri).images[0].state.path == uri
