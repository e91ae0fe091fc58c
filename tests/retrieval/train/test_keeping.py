"""What frozen towers say is found once: the same steps and the same recall, and no tower that runs in every epoch."""

import dataclasses
import json

import numpy as np
import pytest

from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.train import keeping
from retrieval.train.augment import NONE
from retrieval.train.batches import Batches
from retrieval.train.dual_encoder import train_dual_encoder
from retrieval.train.learner import Learner
from retrieval.train.outputs import without_projections
from retrieval.train.pairs import Pairs, hold_out
from retrieval.train.plan import Plan, Watcher
from retrieval.train.processes import Processes
from retrieval.train.settings import Settings
from retrieval.train.starting import Start, start_model
from retrieval.train.trainable import Tuning

PLAN = Plan(
    Start(model="builtin"), Tuning(image=0, text=0), Settings(epochs=2, batch_size=16, learning_rate=1e-3, image_dropout=0.2),
    NONE, views=1,
)


def replaced(**settings):
    return dataclasses.replace(PLAN, settings=dataclasses.replace(PLAN.settings, **settings))


def train(pairs, output, plan=PLAN, **options):
    outcome = train_dual_encoder(pairs, output, plan, processes=Processes(), held_out=12, device="cpu", **options)
    return outcome, [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def nothing_kept_before(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def ran(monkeypatch):
    """Which towers ran while learning or measuring."""
    ran = set()
    for name in ("embed_images", "embed_texts"):
        embed = getattr(Learner, name)
        monkeypatch.setattr(Learner, name, lambda self, given, name=name, embed=embed: ran.add(name) or embed(self, given))
    return ran


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 6])
def test_both_towers_frozen(quarters, tmp_path, monkeypatch, ran, chunk):
    seen = []
    kept, log = train(quarters, tmp_path / "kept", replaced(chunk=chunk), watcher=Watcher(on_photos=lambda *what: seen.append(what)))
    assert not ran
    assert ("Captions", sum(map(len, quarters.captions))) in seen
    monkeypatch.setattr(keeping, "text_projection", lambda text: None)
    monkeypatch.setattr(keeping, "image_projection", lambda visual: None)
    anew, other = train(quarters, tmp_path / "anew", dataclasses.replace(replaced(chunk=chunk), views=None))
    assert ran == {"embed_images", "embed_texts"}
    assert kept.recalls == anew.recalls and kept.steps == anew.steps > 2
    for one, two in zip(log, other, strict=True):
        assert one["loss"] == pytest.approx(two["loss"], rel=2e-3)


def test_rows_are_those_of_their_captions(quarters, tmp_path):
    """Photos with one, two or three captions, some of them held out."""
    pairs = Pairs(quarters.photos, [[f"{n} of {place}" for n in range(1 + place % 3)] for place in range(len(quarters.photos))], 0)
    learned, apart = hold_out(pairs, 20, 1)
    trainee = start_model(PLAN.start)
    kept = keeping.keep(trainee, pairs, learned, apart, PLAN, tmp_path / "views", "cpu", Watcher())
    encoder = OpenClipEncoder(without_projections(trainee.encoder), device="cpu")

    def alike(said, texts):
        return np.einsum("nd,nd->n", said.astype(np.float32), encoder.encode_texts(texts)) > 0.999

    batches = Batches(learned, None, batch_size=16, seed=0, captions_per_photo=2, kept=kept.views)
    for batch in batches.epoch(0):
        assert alike(kept.texts[kept.text_rows[batch.captions.numpy()]], batch.texts).all()
    assert alike(kept.texts_apart, [text for texts in apart.captions for text in texts]).all()
    assert not alike(kept.texts_apart[1:], [text for texts in apart.captions for text in texts][:-1]).any()
    shown = encoder.encode_images([photo.open() for photo in apart.photos])
    assert (np.einsum("nd,nd->n", kept.photos_apart.astype(np.float32), shown) > 0.999).all()


@pytest.mark.parametrize(("change", "runs"), [
    ({"tuning": Tuning(image=0, text=1)}, {"embed_texts"}),
    ({"augmentation": dataclasses.replace(NONE, word_dropout=0.2)}, {"embed_texts"}),  # they differ in each epoch
    ({"settings": dataclasses.replace(PLAN.settings, epochs=1)}, {"embed_texts"}),  # half of the captions are drawn
    ({"tuning": Tuning(image=1, text=0), "views": None}, {"embed_images"}),
])
def test_what_learns_or_is_changed_runs(quarters, tmp_path, ran, change, runs):
    train(quarters, tmp_path / "model", dataclasses.replace(PLAN, **change))
    assert ran == runs
