"""Real servers on free ports, in threads, and what they answer."""

from __future__ import annotations

import json
import shutil
import threading
import time
from http.client import HTTPConnection
from urllib.parse import urlencode, urlsplit

import pytest

from retrieval.corpus.tables import TableOptions
from retrieval.demo import CAPTIONS
from retrieval.maintain import Options, index_sources

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

PATIENCE = 60  # seconds before a wait is given up


class Server:
    """`serve` in a thread; a context manager."""

    def __init__(self, path, **options):
        from retrieval.serve import serve

        self.stop, self.ready, self.error = threading.Event(), threading.Event(), None

        def on_ready(address, images):
            self.address, self.images = address, images
            self.ready.set()

        def run():
            try:
                serve(path, port=0, device="cpu", precision="float32", stop=self.stop, on_ready=on_ready, **options)
            except Exception as error:
                self.error = error
            self.ready.set()

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert self.ready.wait(PATIENCE)

    def __enter__(self):
        assert self.error is None, self.error
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def connect(self):
        return HTTPConnection(urlsplit(self.address).netloc, timeout=PATIENCE)

    def ask(self, target, method="GET", body=None, **headers):
        """(status, content)"""
        connection = self.connect()
        try:
            connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            assert answer.headers["Content-Type"] == "application/json"
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def search(self, *texts, **parameters):
        """The hits."""
        status, content = self.ask("/search?" + urlencode([("q", text) for text in texts] + list(parameters.items())))
        assert status == 200, content
        return content["hits"]

    def search_by(self, image, **parameters):
        status, content = self.ask(
            "/search?" + urlencode(parameters), "POST", image.read_bytes(), Content_Type="image/jpeg"
        )
        assert status == 200, content
        return content["hits"]

    def search_for(self, *queries, **said):
        """What is answered to a search in JSON: each query's hits."""
        status, content = self.ask_json({"queries": queries, **said})
        assert status == 200, content
        return [answer["hits"] for answer in content["answers"]]

    def ask_json(self, said):
        return self.ask("/search", "POST", json.dumps(said), Content_Type="application/json")

    def wait_for(self, **facts):
        """Until /info says so."""
        late = time.monotonic() + PATIENCE
        while time.monotonic() < late:
            info = self.ask("/info")[1]
            if facts.items() <= info.items():
                return
            time.sleep(0.02)
        raise AssertionError(f"{info} is not {facts}")


@pytest.fixture(scope="session")
def served_photos(tmp_path_factory, sample_photos):
    folder = tmp_path_factory.mktemp("served") / "photos"
    folder.mkdir()
    for path in sample_photos:
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def served_collection(served_photos):
    """Every sample photo with its captions, embedded by the built-in encoder. Never change it."""
    path = served_photos.parent / "photos.collection"
    options = Options("builtin", "cpu", "float32", captions=True)
    index_sources([CAPTIONS], path, options, tables=TableOptions(images=served_photos))
    return path


@pytest.fixture(scope="session")
def server(served_collection):
    with Server(served_collection) as running:
        yield running


@pytest.fixture
def changing(photo_folder, tiny_encoder, loaded_once, tmp_path, monkeypatch):
    """A collection of six photos that a test may change while it is served."""
    monkeypatch.setattr("retrieval.serve.searcher.LOOK_SECONDS", 0.05)
    path = tmp_path / "photos.collection"
    index_sources([photo_folder], path, Options(tiny_encoder.name, "cpu", "float32"))
    return path
