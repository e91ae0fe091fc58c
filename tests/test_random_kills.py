"""Kills at random instants of an indexing run over real files: nothing is lost, and nothing but
the batch in flight is encoded twice.

This file is also a program, which indexes a folder in one child process after the other and
kills each after a random while. `pytest -m slow` does it 50 times.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval import maintain
from retrieval.collection import Collection
from retrieval.images import open_image
from retrieval.maintain import Options, index_sources

IMAGES = 300
BATCH = 4
LONGEST = 0.12  # seconds until a kill, at most: a few batches

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, no SIGKILL")


class Logging:
    """A small encoder, colours on a grid of 4 x 4, that logs what it is about to encode."""

    name = fingerprint = "logging"
    dim = 48

    def __init__(self, log=None, seconds=0.0):
        self.log, self.seconds = log, seconds

    def prepare(self, image):
        return np.asarray(image.resize((4, 4)), np.float32).ravel()  # (48,)

    def encode_prepared(self, prepared):
        if self.log:
            lines = "".join(hashlib.sha1(one.tobytes()).hexdigest() + "\n" for one in prepared)
            with open(self.log, "a") as log:
                log.write(lines)
        time.sleep(self.seconds)
        rows = np.stack(prepared)  # (n, 48)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def index(folder, path, encoder):
    maintain.load_encoder = maintain.load_recorded_encoder = lambda *_, **__: encoder
    return index_sources([folder], path, Options(batch_size=BATCH))


def main(folder, path, log, kills):
    """Prints how many documents each kill left."""
    generator = random.Random(0)
    landed = 0
    while landed < kills:
        child = os.fork()
        if child == 0:
            index(folder, path, Logging(log, seconds=0.02))
            os._exit(0)
        time.sleep(generator.uniform(0, LONGEST))
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            raise SystemExit(f"the run came to its end after {landed} kills")
        landed += 1
        if path.exists():
            with Collection.open(path) as collection:
                print(len(collection), flush=True)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0)
    for number in range(IMAGES):
        image = Image.fromarray(pixels.integers(0, 256, (6, 8, 3), np.uint8)).resize((80, 60))
        image.save(folder / f"{number:03}.jpg", quality=90)
    return folder


@pytest.fixture(autouse=True)
def loaders_put_back(monkeypatch):
    for name in ("load_encoder", "load_recorded_encoder"):
        monkeypatch.setattr(maintain, name, getattr(maintain, name))


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_instants(folder, tmp_path, kills):
    path, log = tmp_path / "x.collection", tmp_path / "encoded.log"
    start = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", start, __file__, str(folder), str(path), str(log), str(kills)],
        capture_output=True, text=True,
    )
    assert done.returncode == 0, done.stderr
    left = [int(line) for line in done.stdout.split()]
    assert left == sorted(left)  # nothing that was committed is lost

    report = index(folder, path, Logging(log))
    committed = left[-1] if left else 0
    assert (report.images, report.encoded, report.unchanged) == (IMAGES, IMAGES - committed, committed)
    assert report.skipped == [] and not report.interrupted

    names = [f"{number:03}.jpg" for number in range(IMAGES)]
    pixels = [Logging().prepare(open_image(folder / name)[0]) for name in names]
    expected = Logging().encode_prepared(pixels)
    with Collection.open(path, encoder=Logging()) as collection:
        assert collection.catalog.indexed() == list(zip(names, range(IMAGES)))
        assert (collection.catalog.vector_rows, collection.vectors.n) == (IMAGES, IMAGES)
        assert collection.manifest.index.generation == collection.catalog.generation
        assert collection.index().n == IMAGES
        np.testing.assert_allclose(collection.vectors.take(np.arange(IMAGES)), expected, atol=2**-11)
        hits = collection.search_vectors(names, expected, 1)
    assert [hit.id for hit in hits] == names

    times = Counter(log.read_text().split())
    assert set(times) >= {hashlib.sha1(one.tobytes()).hexdigest() for one in pixels}
    again = sum(times.values()) - IMAGES
    assert again <= kills * BATCH
    print(f"{kills} kills: {left} documents left; {again} images encoded twice, {kills * BATCH} allowed")


if __name__ == "__main__":
    *places, kills = sys.argv[1:]
    main(*map(Path, places), int(kills))
