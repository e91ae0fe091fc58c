"""The model hub, spoken to for real: a small one on this machine, a dead one, a silent one."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from retrieval.encoders import hub

REPOSITORY = "someone/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves a folder as REPOSITORY, in as much of the hub's protocol as downloads need."""

    def __init__(self, folder):
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                asked.append(self.path)
                prefix, _, name = self.path.partition("/resolve/")
                name = name.partition("/")[2]
                file = folder / name
                if prefix != f"/{REPOSITORY}" or not name or not file.is_file():
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.end_headers()
                    return
                self.content = file.read_bytes()
                self.send_response(200)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
                self.send_header("Content-Length", str(len(self.content)))
                self.end_headers()

            def do_GET(self):
                self.content = b""
                self.do_HEAD()
                self.wfile.write(self.content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def small_hub(tiny_model):
    served = Hub(tiny_model)
    yield served
    served.close()


@pytest.fixture
def silent_hub():
    """Accepts connections and never answers: what a captive network looks like."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@pytest.fixture
def python(tmp_path):
    """Run code as a user with an empty home whose hub is at an address."""

    def run(code: str, endpoint: str, **environment: str) -> dict:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
            env={**clean, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"),
                 "RETRIEVAL_CACHE": str(tmp_path / "cache"), "NO_PROXY": "*", **environment},
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


LOAD = f"""
import json, logging
notes = []
log = logging.getLogger("retrieval")
log.setLevel(logging.INFO)
log.addHandler(type("Keep", (logging.Handler,), dict(emit=lambda self, r: notes.append(r.getMessage())))())
from retrieval.encoders import load_encoder
from retrieval.errors import WeightsError
try:
    encoder = load_encoder("hf-hub:{REPOSITORY}", device="cpu", precision="float32")
    print(json.dumps(dict(notes=notes, vectors=encoder.encode_texts(["a dog"]).tolist())))
except WeightsError as error:
    print(json.dumps(dict(notes=notes, error=str(error))))
"""

CHOOSE = """
import json
from retrieval.encoders import auto
auto.RECOMMENDED_REPOSITORY = "someone/tiny"
choice = auto.choose()
print(json.dumps(dict(name=choice.name, sentence=choice.sentence)))
"""


@pytest.mark.slow
def test_download_then_work_without_the_hub(python, small_hub, tiny_encoder, tiny_model):
    expected = tiny_encoder.encode_texts(["a dog"])
    megabytes = round((tiny_model / "open_clip_model.safetensors").stat().st_size / 1e6)
    first = python(LOAD, small_hub.address)
    assert f"Downloading hf-hub:{REPOSITORY}: {megabytes} MB, once." in first["notes"]
    np.testing.assert_allclose(first["vectors"], expected, atol=1e-6)

    small_hub.close()
    again = python(LOAD, small_hub.address)
    assert again["notes"] == []
    np.testing.assert_allclose(again["vectors"], expected, atol=1e-6)


@pytest.mark.slow
def test_cached_weights_cause_no_request(python, small_hub):
    python(LOAD, small_hub.address)
    small_hub.asked.clear()
    assert "vectors" in python(LOAD, small_hub.address)
    assert small_hub.asked == []


def test_no_hub_is_an_error_that_says_how_to_get_weights(python):
    error = python(LOAD, "http://127.0.0.1:9")["error"]
    assert "weights of hf-hub:someone/tiny are not on this machine" in error
    assert "cannot be reached" in error
    assert "--model builtin" in error and "--model MODEL/PATH/TO/CHECKPOINT" in error


def test_repository_that_the_hub_does_not_have(python, small_hub):
    code = LOAD.replace(REPOSITORY, "someone/else")
    assert "has no someone/else for you" in python(code, small_hub.address)["error"]


def test_auto_takes_the_recommended_model_where_it_can_be_had(python, small_hub):
    choice = python(CHOOSE, small_hub.address)
    assert choice["name"] == "ViT-B-32-SigLIP2-256/webli"
    assert "the recommended one; downloading 14 MB once." in choice["sentence"]
    assert "--model NAME" in choice["sentence"]
    python(LOAD, small_hub.address)  # puts the weights into the cache
    assert "its weights are on this machine" in python(CHOOSE, "http://127.0.0.1:9")["sentence"]


@pytest.mark.parametrize("dead", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_auto_without_a_hub_is_built_in(python, dead):
    choice = python(CHOOSE, dead)
    assert choice["name"] == "builtin"
    assert "the model hub cannot be reached" in choice["sentence"]


def test_auto_gives_up_on_a_silent_hub(python, silent_hub):
    assert python(CHOOSE, silent_hub)["name"] == "builtin"


def test_offline_by_choice_asks_nothing(python, small_hub):
    choice = python(CHOOSE, small_hub.address, HF_HUB_OFFLINE="1")
    assert choice["name"] == "builtin"
    assert "HF_HUB_OFFLINE is set" in choice["sentence"]
    assert "HF_HUB_OFFLINE is set" in python(LOAD, small_hub.address, HF_HUB_OFFLINE="1")["error"]
    assert small_hub.asked == []


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "unknown size"), (10, "1 MB"), (999_000_000, "999 MB"), (1_500_000_000, "1.5 GB")],
)
def test_readable_size(count, text):
    assert hub.readable_size(count) == text
