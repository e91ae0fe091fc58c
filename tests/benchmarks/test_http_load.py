import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.http_load import load


class Search(BaseHTTPRequestHandler):
    """Finds k letters of the text, and refuses the text "bad"."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(asked["q"][0])
        content = json.dumps({"hits": [{"id": letter} for letter in asked["q"][0][: int(asked["k"][0])]]}).encode()
        self.send_response(400 if asked["q"] == ["bad"] else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Search) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_every_text_is_asked_in_turn(server):
    address = f"http://127.0.0.1:{server.server_port}"
    found = load(address, ["dog", "a cat & more", "Ωmega"], k=2, requests=7, concurrency=3)
    assert sorted(server.asked) == ["a cat & more"] * 2 + ["dog"] * 3 + ["Ωmega"] * 2
    assert found["found"] == [["d", "o"], ["a", " "], ["Ω", "m"]]
    assert 0 < found["p50_ms"] <= found["p99_ms"] and found["queries_per_second"] > 0


def test_a_refusal_is_an_error(server):
    with pytest.raises(RuntimeError, match="400: "):
        load(f"http://127.0.0.1:{server.server_port}", ["dog", "bad"], k=2, requests=4, concurrency=2)
