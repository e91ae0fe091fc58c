"""What frozen towers say is found once: the same steps and the same recall, and no tower that runs in every epoch."""

import dataclasses
import json

import pytest

from retrieval.train import keeping
from retrieval.train.augment import NONE
from retrieval.train.dual_encoder import train_dual_encoder
from retrieval.train.learner import Learner
from retrieval.train.plan import Plan, Watcher
from retrieval.train.processes import Processes
from retrieval.train.settings import Settings
from retrieval.train.starting import Start
from retrieval.train.trainable import Tuning

PLAN = Plan(
    Start(model="builtin"), Tuning(image=0, text=0), Settings(epochs=2, batch_size=16, learning_rate=1e-3, image_dropout=0.2),
    NONE, views=1,
)


def train(pairs, output, plan=PLAN, **options):
    outcome = train_dual_encoder(pairs, output, plan, processes=Processes(), held_out=12, device="cpu", **options)
    return outcome, [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def ran(monkeypatch):
    """Which towers ran while learning or measuring."""
    ran = set()
    for name in ("embed_images", "embed_texts"):
        embed = getattr(Learner, name)
        monkeypatch.setattr(Learner, name, lambda self, given, name=name, embed=embed: ran.add(name) or embed(self, given))
    return ran


def test_both_towers_frozen(quarters, tmp_path, monkeypatch, ran):
    seen = []
    kept, log = train(quarters, tmp_path / "kept", watcher=Watcher(on_photos=lambda *what: seen.append(what)))
    assert not ran
    assert ("Captions", sum(map(len, quarters.captions))) in seen
    monkeypatch.setattr(keeping, "text_projection", lambda text: None)
    monkeypatch.setattr(keeping, "image_projection", lambda visual: None)
    anew, other = train(quarters, tmp_path / "anew", dataclasses.replace(PLAN, views=None))
    assert ran == {"embed_images", "embed_texts"}
    assert kept.recalls == anew.recalls and kept.steps == anew.steps > 2
    for one, two in zip(log, other, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=2e-3)


@pytest.mark.parametrize(("change", "runs"), [
    ({"tuning": Tuning(image=0, text=1)}, {"embed_texts"}),
    ({"augmentation": dataclasses.replace(NONE, word_dropout=0.2)}, {"embed_texts"}),  # they differ in each epoch
    ({"tuning": Tuning(image=1, text=0), "views": None}, {"embed_images"}),
])
def test_what_learns_or_is_changed_runs(quarters, tmp_path, ran, change, runs):
    train(quarters, tmp_path / "model", dataclasses.replace(PLAN, **change))
    assert ran == runs
