import numpy as np
import pytest

from retrieval.calibration import Calibration, text_hash
from retrieval.errors import TrainingError
from retrieval.train import references as room
from retrieval.train.references import write_references


@pytest.fixture
def captions(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "HELD_OUT", 2)
    path = tmp_path / "photos.tsv"
    lines = [f"train\t{name}.jpg\ta {thing}" for name, thing in zip("abcde", ("dog", "cat", "boat", "Car", "tree"))]
    lines += ["train\te.jpg\ta house", "train\te.jpg\tA  boat", "test\tf.jpg\ta car", "test\tf.jpg\ta bird"]
    path.write_text("\n".join(["split\timage\tcaption", *lines]) + "\n")
    return path


def test_captions_of_training_photos_that_are_asked_nowhere(captions, tmp_path, tiny_encoder):
    output = tmp_path / "references.safetensors"
    write_references(captions, "train", output, tiny_encoder, count=3)
    written = Calibration.load(output)
    texts = ["a boat", "a house", "a tree"]  # not the dog and cat held out, nor the car of the test
    assert sorted(written.hashes.tolist()) == sorted(map(text_hash, texts))
    assert (written.weight, written.k, written.source) == (0.5, 16, "3 captions of the photos train split")
    assert written.floor == room.FLOOR
    vectors = dict(zip(map(text_hash, texts), tiny_encoder.encode_texts(["A  boat", "a house", "a tree"])))
    expected = np.stack([vectors[one] for one in written.hashes.tolist()])
    np.testing.assert_allclose(written.references.astype(np.float32), expected, atol=1e-3)
    assert b"boat" not in output.read_bytes()


def test_the_same_seed_draws_the_same(captions, tmp_path, tiny_encoder):
    drawn = [write_references(captions, "train", tmp_path / "r", tiny_encoder, count=1, seed=seed).hashes.tolist()
             for seed in (0, 0, 1, 2, 3, 4, 5)]
    assert drawn[0] == drawn[1] and len({tuple(one) for one in drawn}) > 1


def test_too_few(captions, tmp_path, tiny_encoder):
    with pytest.raises(TrainingError, match="photos.tsv leaves 3 captions to draw references from; 4 are needed"):
        write_references(captions, "train", tmp_path / "r", tiny_encoder, count=4)
