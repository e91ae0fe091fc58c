import numpy as np
import pytest

from retrieval.corpus.captions import CaptionSet
from retrieval.corpus.layouts import Caption
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.relevance import auto_threshold
from retrieval.evaluate.scores import Sampling
from retrieval.evaluate.task import make_task
from retrieval.rank.relevance import background


class Axes:
    """An encoder whose background captions all reach 0.5 with every image along an axis."""

    name, fingerprint, dim = "axes", "axes", 5

    def encode_texts(self, texts):
        vector = np.array([0.5, 0.5, 0.5, 0.5, 0], np.float32)
        return np.tile(vector, (len(texts), 1))


def evaluation(texts, tmp_path):
    """Four images along the axes; captions (owner, vector)."""
    ids = [f"{number}.jpg" for number in range(4)]
    captions = [Caption(ids[owner], f"caption {number}") for number, (owner, _) in enumerate(texts)]
    task = make_task(CaptionSet(captions, "table", 0, tmp_path), ids)
    vectors = np.array([vector for _, vector in texts], np.float32)
    return Evaluation("axes", "axes", task, [], {}, np.eye(4, 5, dtype=np.float32), vectors)


def test_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path))
    left = sorted(np.random.default_rng(3).permutation(4)[:2].tolist())
    gone = [image for image in range(4) if image not in left]
    axis = np.eye(5)
    nothing = axis[4]
    found = auto_threshold(evaluation([
        (left[0], axis[left[0]]),  # there, and shown
        (left[1], axis[left[1]]),  # there, and shown
        (left[1], nothing),  # there, but nothing reaches 0.5
        (gone[0], axis[gone[0]]),  # not there, nothing shown
        (gone[1], axis[left[0]]),  # not there, but another is shown
    ], tmp_path), Axes(), Sampling(resamples=200, seed=3))
    assert (found.images, found.queries) == (2, 5)
    assert found.precision.value == pytest.approx(2 / 3)
    assert found.recall.value == pytest.approx(2 / 3)
    assert found.rejected.value == pytest.approx(1 / 2)
    assert found.precision.low <= 2 / 3 <= found.precision.high
    record = found.to_json()
    assert record["model"] == "axes" and record["rejected"][0] == 0.5
    assert len(background()) > 1


def test_nothing_shown_at_all_has_no_precision(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path))
    texts = [(owner, np.eye(5)[4]) for owner in range(4)]
    found = auto_threshold(evaluation(texts, tmp_path), Axes(), Sampling(resamples=200, seed=3))
    assert np.isnan(found.precision.value) and found.recall.value == 0 and found.rejected.value == 1
    assert found.to_json()["precision"] == [None, None, None]
