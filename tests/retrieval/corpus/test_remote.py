"""Against a real web server on this machine, and fsspec's own file system in memory."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from retrieval.corpus import remote
from retrieval.corpus.remote import is_uri, named, read, scan
from retrieval.errors import CorpusError, ImageError


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
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 0.0)
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


@pytest.fixture
def bucket(jpeg):
    """memory://bucket with three images and other things"""
    system = fsspec.filesystem("memory")
    for name, content in {
        "z.jpg": jpeg("red"), "x/a.PNG": jpeg("blue"), "x/y/b c#ü.jpg": jpeg("green"), "notes.txt": b"x", ".t/h.jpg": b"x",
    }.items():
        system.pipe(f"/bucket/{name}", content)
    yield system
    system.rm("/bucket", recursive=True)


def refusal(uri):
    with pytest.raises(ImageError) as caught:
        read(uri)
    return str(caught.value)


class TestWeb:
    @pytest.mark.parametrize("path", ["/a.jpg", "/with space/ü.jpg?x=1&y=%20", "/moved", "/once"])
    def test_an_image(self, web, path):
        assert read(web.at(path)) == web.image

    def test_a_name_and_password_go_to_that_server_alone(self, web):
        assert read(web.at("/moved").replace("//", "//me:p%40ss@")) == web.image
        assert web.credentials == ["Basic bWU6cEBzcw==", None]

    def test_a_scan_asks_nothing(self, web):
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
    def test_what_passes_is_tried_twice(self, web, path, reason, tries):
        assert refusal(web.at(path)) == reason
        assert web.asked == [path] * tries

    def test_a_server_that_is_silent(self, monkeypatch):
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(remote, "SILENCE_SECONDS", 0.1)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            assert refusal(f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg") == "no answer within 0.1 seconds"

    @pytest.mark.parametrize("path", ["/slow", "/headers"])
    def test_a_server_that_never_ends(self, web, monkeypatch, path):
        monkeypatch.setattr(remote, "TOTAL_SECONDS", 0.2)
        assert refusal(web.at(path)) == "not all of it came within 0.2 seconds"

    def test_no_server(self, monkeypatch):
        monkeypatch.setenv("NO_PROXY", "*")
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        assert refusal(f"http://127.0.0.1:{port}/a.jpg") == "cannot be fetched: Connection refused"
        assert refusal("http://no-such-host.invalid/a.jpg") == "there is no such server, or no network"

    def test_more_than_an_image_can_be(self, web, monkeypatch):
        monkeypatch.setattr(remote, "MOST_BYTES", 100)
        assert refusal(web.at("/a.jpg")) == "larger than 0 MiB"

    @pytest.mark.parametrize("uri", ["http://[1/a.jpg", "http://host:port/a.jpg"])
    def test_no_link_at_all(self, uri):
        assert refusal(uri).startswith("not a link that can be followed (")
        assert scan(uri).images[0].state.path == uri


class TestStorage:
    def test_all_images_below_a_folder(self, bucket, jpeg):
        result = scan("memory://bucket/")
        assert [(image.state.path, image.relative) for image in result.images] == [
            ("memory://bucket/x/a.PNG", "x/a.PNG"), ("memory://bucket/x/y/b c#ü.jpg", "x/y/b c#ü.jpg"),
            ("memory://bucket/z.jpg", "z.jpg"),
        ]
        assert [read(image.state.path) for image in result.images] == [jpeg("blue"), jpeg("green"), jpeg("red")]
        assert (result.unreadable, result.roots) == ([], ["memory://bucket"])

    def test_one_image(self, bucket, jpeg):
        [image] = scan("memory://bucket/x/a.PNG").images
        assert (image.relative, image.state.size) == ("a.PNG", len(jpeg("blue")))

    def test_what_is_written_anew_has_another_state(self, bucket, jpeg):
        before = scan("memory://bucket/z.jpg").images
        assert scan("memory://bucket/z.jpg").images == before
        time.sleep(0.001)
        bucket.pipe("/bucket/z.jpg", jpeg("red"))
        assert scan("memory://bucket/z.jpg").images[0].state.mtime_ns > before[0].state.mtime_ns

    def test_what_is_gone(self, bucket):
        assert refusal("memory://bucket/gone.jpg") == "not there"
        with pytest.raises(CorpusError, match="^memory://gone does not exist"):
            scan("memory://gone")

    def test_storage_that_fails(self, bucket, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("no credentials\nfound")

        monkeypatch.setattr(type(bucket), "find", fail)
        monkeypatch.setattr(type(bucket), "cat_file", fail)
        with pytest.raises(CorpusError, match="^memory://bucket cannot be listed: no credentials found. Check"):
            scan("memory://bucket")
        assert refusal("memory://bucket/z.jpg") == "cannot be read: no credentials found"

    @pytest.mark.parametrize(("protocol", "extra"), [("s3", "s3"), ("gs", "gcs")])
    def test_a_package_that_is_not_installed(self, monkeypatch, protocol, extra):
        def absent(uri):
            raise ImportError("Install it to access that")

        monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
        expected = f"{protocol}:// needs a package that is not installed: pip install 'crossmodal-retrieval\\[{extra}\\]'"
        with pytest.raises(CorpusError, match=f"{protocol}://bucket/x cannot be read: {expected}"):
            scan(f"{protocol}://bucket/x")
        assert "needs more: Install it to access that" in refusal("abfs://x/a.jpg")

    def test_an_unknown_protocol(self):
        assert refusal("nope://x/a.jpg") == "Protocol not known: nope"


@pytest.mark.parametrize(("info", "number"), [
    ({}, 0), ({"mtime": 1.5}, 1_500_000_000), ({"created": None, "updated": "2024"}, None), ({"ETag": '"x"', "mtime": 1}, None),
])
def test_versions(info, number):
    first, again = remote._state("a", info), remote._state("a", dict(info))
    assert first == again and first.size == -1
    if number is not None:
        assert first.mtime_ns == number
    else:
        assert 0 < first.mtime_ns < 2**63


def test_ids_of_links():
    image = named("https://host/x?y/z")
    assert (image.relative, str(image.root)) == ("x?y/z", "https:/host")


@pytest.mark.parametrize(("name", "expected"), [
    ("s3://b/x", True), ("HTTPS://x", True), ("C:/x", False), ("/a://b", False), ("a.jpg", False), ("://", False),
])
def test_what_is_a_uri(name, expected):
    assert is_uri(name) is expected
