"""`--exact-preprocess` reaches the encoder: open_clip's own pixels, bit by bit."""

import os
import shutil
import signal

import numpy as np
import open_clip
import pytest
from PIL import Image

from retrieval import ingest


@pytest.fixture
def folder(photo_folder, tmp_path):
    """One JPEG, large enough to be decoded smaller where that is allowed."""
    (tmp_path / "one").mkdir()
    shutil.copy(photo_folder / "flower.jpg", tmp_path / "one")
    return tmp_path / "one"


@pytest.fixture
def stop_after_a_batch(monkeypatch):
    """Ctrl-C, as soon as something is committed."""
    pytest.importorskip("watchfiles")
    commit = ingest.Catalog.commit

    def commit_and_interrupt(*batch):
        commit(*batch)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ingest.Catalog, "commit", commit_and_interrupt)


def stored(run, command, folder, model, path, *options):
    done = run(command, folder, "-o", path, "--model", model, "--device", "cpu", *options)
    assert done.status == 0, done.err
    return np.load(path / "vectors" / "00000.npy")


@pytest.mark.parametrize("command", ["index", "watch"])
def test_vectors_are_those_of_open_clips_transform(run, folder, tiny_model, tiny_encoder, tmp_path, command, request):
    _, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tiny_model}")
    pixels = transform(Image.open(folder / "flower.jpg"))
    expected = tiny_encoder.encode_prepared([pixels]).astype(np.float16)
    if command == "watch":
        request.getfixturevalue("stop_after_a_batch")
    exact = stored(run, command, folder, tiny_model, tmp_path / "exact.collection", "--exact-preprocess")
    np.testing.assert_array_equal(exact, expected)
    fast = stored(run, command, folder, tiny_model, tmp_path / "fast.collection")
    assert (fast != expected).any()
