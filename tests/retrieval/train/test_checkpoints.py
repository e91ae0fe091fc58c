"""Checkpoints are whole or not there, and know their run."""

import resource
import signal

import pytest
import torch

from retrieval.errors import TrainingError
from retrieval.train.checkpoints import Checkpoints

RUN = {"learning_rate": 0.1, "data": "abc"}


def test_what_was_saved_comes_back(tmp_path):
    checkpoints = Checkpoints(tmp_path, RUN)
    assert checkpoints.resume() is None and checkpoints.best_weights() is None
    checkpoints.save({"weights": {"a": torch.arange(3.0)}, "done": 7})
    checkpoints.save_best({"a": torch.ones(2)})
    assert Checkpoints(tmp_path, {"data": "another"}).found()["done"] == 7
    state = Checkpoints(tmp_path, dict(RUN)).resume()
    assert state["done"] == 7 and torch.equal(state["weights"]["a"], torch.arange(3.0))
    assert torch.equal(checkpoints.best_weights()["a"], torch.ones(2))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.pt", "last.pt"]
    checkpoints.clear()
    assert checkpoints.resume() is None and checkpoints.best_weights() is None


def test_of_another_run(tmp_path):
    Checkpoints(tmp_path, RUN).save({"done": 1})
    with pytest.raises(TrainingError, match="last.pt is of a run with learning_rate 0.1, and now it is 0.2"):
        Checkpoints(tmp_path, {**RUN, "learning_rate": 0.2}).resume()


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda content: b"PK" + content[::-1]])
def test_damaged(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save({"done": 1, "weights": torch.zeros(1000)})
    checkpoints.last.write_bytes(damage(checkpoints.last.read_bytes()))
    with pytest.raises(TrainingError, match="last.pt is damaged .*--restart"):
        checkpoints.resume()


def test_damage_is_told_in_one_whole_sentence(tmp_path):
    """torch's own go on for a paragraph."""
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save({"done": 1, "weights": torch.zeros(1000)})
    checkpoints.last.write_bytes(checkpoints.last.read_bytes()[:2000])
    reason = r"\(PytorchStreamReader failed reading zip archive: failed finding central directory\)\. Remove it, or begin anew"
    with pytest.raises(TrainingError, match=reason):
        checkpoints.resume()


def test_of_a_newer_version(tmp_path):
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save({"done": 1})
    torch.save({**torch.load(checkpoints.last, weights_only=True), "format": 2}, checkpoints.last)
    with pytest.raises(TrainingError, match="newer version.*Upgrade"):
        checkpoints.resume()


@pytest.fixture
def full_disk():
    """Files cannot grow beyond 20,000 bytes."""
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_keeps_the_one_before(tmp_path, full_disk):
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save({"done": 1})
    with pytest.raises(TrainingError, match="cannot be written .*still whole; resume from it with --resume"):
        checkpoints.save({"done": 2, "weights": torch.zeros(100_000)})
    assert checkpoints.resume() == {"done": 1}
    assert [path.name for path in checkpoints.last.parent.iterdir()] == ["last.pt"]
