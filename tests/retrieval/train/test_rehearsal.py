"""What cannot be learned is refused before towers run over all photos."""

import dataclasses

import pytest
import torch

from retrieval.errors import TrainingError
from retrieval.train import dual_encoder
from retrieval.train.dual_encoder import train_dual_encoder
from retrieval.train.plan import Plan
from retrieval.train.processes import Processes
from retrieval.train.rehearsal import rehearse
from retrieval.train.settings import Settings
from retrieval.train.starting import Start, start_model
from retrieval.train.trainable import Tuning

SETTINGS = Settings(batch_size=16)


@pytest.mark.parametrize(("settings", "tuning", "captions", "said"), [
    (dataclasses.replace(SETTINGS, batch_size=73), Tuning(image=0), None, "72 photos are fewer than a batch of 73"),
    (SETTINGS, Tuning(image=0), "a photo", "All captions are the same, 'a photo'"),
    (dataclasses.replace(SETTINGS, image_dropout=0.5), Tuning(image=0), None, "image tower has no layer for its projection"),
    (SETTINGS, Tuning(image=0, text=9), None, "its last 9 cannot be trained"),
])
def test_before_the_long_work(quarters, tmp_path, tiny_model, monkeypatch, settings, tuning, captions, said):
    monkeypatch.setattr(dual_encoder, "keep", lambda *given: pytest.fail("the towers ran first"))
    pairs = dataclasses.replace(quarters, captions=[[captions]] * 72) if captions else quarters
    with pytest.raises(TrainingError, match=said):
        train_dual_encoder(pairs, tmp_path, Plan(Start(model=str(tiny_model)), tuning, settings), processes=Processes(), device="cpu")


@pytest.mark.parametrize("views", [None, 1])
def test_a_size_that_the_image_tower_does_not_take(quarters, tmp_path, views):
    start = Start(image_tower="test_vit:none", text_tower="transformer", dim=8)
    plan = Plan(start, Tuning(image=1), SETTINGS, train_size=100, views=views)
    with pytest.raises(TrainingError, match=r"cannot learn from photos of 100 pixels \(.*\). Choose another --train-size"):
        train_dual_encoder(quarters, tmp_path, plan, processes=Processes(), device="cpu")


def test_nothing_is_different_afterwards(quarters, tiny_model):
    model = start_model(Start(model=str(tiny_model))).encoder.model
    before = {name: one.clone() for name, one in model.state_dict().items()}
    torch.manual_seed(5)
    rehearse(model, quarters, SETTINGS, Tuning(lora=2), world=1, size=None)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    assert set(model.state_dict()) == set(before) and all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert all(one.requires_grad for one in model.parameters())
