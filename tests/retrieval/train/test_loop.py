"""The loop: it ends where it should, keeps the best, and resumes as if it had never stopped."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from retrieval.errors import TrainingError
from retrieval.train.journal import read
from retrieval.train.learner import Learner
from retrieval.train.processes import Processes
from retrieval.train.starting import Start
from retrieval.train.dual_encoder import train_dual_encoder
from retrieval.train.plan import Plan, Watcher
from retrieval.train.settings import Settings

SETTINGS = Settings(epochs=3, batch_size=16, learning_rate=1e-3, average=0.9, seed=3)


@pytest.fixture
def run(tiny_model, quarters):
    def train(output, settings=SETTINGS, **options):
        plan = Plan(Start(model=str(tiny_model)), settings=settings)
        return train_dual_encoder(quarters, output, plan, processes=Processes(), device="cpu", **{"held_out": 8, **options})

    return train


def weights_of(output):
    return torch.load(output / "checkpoints" / "last.pt", weights_only=True)["state"]


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_resumed_is_as_if_it_had_never_stopped(run, tmp_path):
    """Bit for bit: weights, averages, the optimizer's memory, and where the run is."""
    whole = run(tmp_path / "whole")
    assert (whole.epochs, whole.steps, whole.interrupted) == (3, 12, False)
    part = run(tmp_path / "part", watcher=after(6))  # in the second epoch
    assert part.interrupted and part.steps == 6
    best = torch.load(tmp_path / "part" / "checkpoints" / "best.pt", weights_only=True)["weights"]
    written = load_file(tmp_path / "part" / "open_clip_model.safetensors")  # usable already, though unfinished
    assert part.best_epoch == 1 and torch.equal(written["text_projection"], best["text_projection"])
    resumed = run(tmp_path / "part", resume=True)
    assert same(weights_of(tmp_path / "part"), weights_of(tmp_path / "whole"))
    assert resumed == whole
    written = [(tmp_path / folder / "open_clip_model.safetensors").read_bytes() for folder in ("whole", "part")]
    assert written[0] == written[1]


def test_resuming_a_finished_run_changes_nothing(run, tmp_path):
    first = run(tmp_path)
    assert run(tmp_path, resume=True) == first
    epochs = [line["epoch"] for line in read(tmp_path / "log.jsonl") if "recalls" in line]
    assert epochs == [1, 2, 3]


def after(steps):
    """Stops a run there."""
    asked = iter([False] * (steps - 1) + [True])
    return Watcher(stop=lambda: next(asked))


def test_an_unfinished_run_is_not_lost_by_mistake(run, tmp_path):
    run(tmp_path, dataclasses.replace(SETTINGS, epochs=1))  # finished before, by the same number of steps as
    run(tmp_path, restart=True, watcher=after(4))  # this one makes
    before = (tmp_path / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"holds an unfinished run \(step 4\). Go on with --resume, .* --restart"):
        run(tmp_path, dataclasses.replace(SETTINGS, epochs=1))
    assert (tmp_path / "checkpoints" / "last.pt").read_bytes() == before
    again = run(tmp_path, dataclasses.replace(SETTINGS, epochs=1), restart=True)
    assert (again.steps, again.interrupted) == (4, False)


def test_resuming_where_there_is_no_checkpoint(run, tmp_path, caplog):
    short = dataclasses.replace(SETTINGS, epochs=1)
    with caplog.at_level("INFO", "retrieval"):
        assert run(tmp_path, short, resume=True).steps == 4
    assert f"{tmp_path} holds no checkpoint to go on from; beginning anew." in caplog.messages
    model = (tmp_path / "open_clip_model.safetensors").read_bytes()
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(TrainingError, match="holds a model, and no checkpoint to go on from. .* without --resume"):
        run(tmp_path, dataclasses.replace(short, seed=4), resume=True)
    assert (tmp_path / "open_clip_model.safetensors").read_bytes() == model


def test_a_finished_run_is_written_over(run, tmp_path):
    run(tmp_path, dataclasses.replace(SETTINGS, epochs=2))
    again = run(tmp_path, dataclasses.replace(SETTINGS, epochs=1))
    assert again.steps == 4
    with pytest.raises(TrainingError, match="last.pt is of a run with epochs 1, and now it is 3"):
        run(tmp_path, resume=True)


@pytest.fixture
def no_number_at(monkeypatch):
    """no_number_at(step): from there on the loss is none, unless the learning rate is small."""
    learn = Learner.learn

    def at(step):
        def learned(learner, batch):
            if learner.done + 1 >= step and learner.settings.learning_rate > 1e-4:
                learner._loss = lambda images, *_: images.sum() * float("nan")
            return learn(learner, batch)

        monkeypatch.setattr(Learner, "learn", learned)

    return at


def test_a_run_that_diverges_leaves_its_best_model_and_can_go_on_slower(run, tmp_path, no_number_at):
    no_number_at(6)
    with pytest.raises(TrainingError, match=(
        r"at step 6 of 12. Lower the learning rate \(now 0.001\). --resume goes on from the checkpoint before. "
        rf"{tmp_path} holds the model of epoch 1, the best so far."
    )):
        run(tmp_path)
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)["weights"]
    assert torch.equal(load_file(tmp_path / "open_clip_model.safetensors")["text_projection"], best["text_projection"])
    with pytest.raises(TrainingError, match="unfinished run"):
        run(tmp_path)
    resumed = run(tmp_path, dataclasses.replace(SETTINGS, learning_rate=1e-4, clip=0.5, patience=9), resume=True)
    assert (resumed.steps, resumed.interrupted) == (12, False)


def test_a_run_that_diverges_at_once_promises_nothing(run, tmp_path, no_number_at):
    no_number_at(2)
    with pytest.raises(TrainingError, match=r"\(now 0.001\). There is no checkpoint yet.$"):
        run(tmp_path)
    assert not (tmp_path / "open_clip_model.safetensors").exists() and not (tmp_path / "checkpoints" / "last.pt").exists()


def test_stops_when_nothing_gets_better(run, tmp_path):
    """With a learning rate of nearly nothing each epoch is as good as the first."""
    idle = dataclasses.replace(SETTINGS, epochs=9, learning_rate=1e-12, patience=2, average=0.0)
    outcome = run(tmp_path, idle)
    assert (outcome.epochs, outcome.best_epoch) == (3, 1)
    assert run(tmp_path, idle, resume=True) == outcome  # it had ended


def test_the_best_epoch_comes_out(run, tmp_path, monkeypatch):
    from retrieval.train import dual_encoder

    scores = iter([20.0, 30.0, 10.0])

    class Scripted:
        def __init__(self, *_):
            pass

        def __call__(self, *_):
            value = next(scores)
            return {way: dict.fromkeys(("R@1", "R@5", "R@10"), value) for way in ("text_to_image", "image_to_text")}

    monkeypatch.setattr(dual_encoder, "Validation", Scripted)
    outcome = run(tmp_path)
    assert outcome.best_epoch == 2 and outcome.recalls["text_to_image"]["R@1"] == 30.0
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)["weights"]
    written = load_file(tmp_path / "open_clip_model.safetensors")
    assert torch.equal(written["text_projection"], best["text_projection"])
    assert not torch.equal(written["text_projection"], weights_of(tmp_path)["learner"]["average"]["text_projection"])
