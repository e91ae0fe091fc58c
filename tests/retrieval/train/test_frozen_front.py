"""Frozen layers in front run once: the same tower in two parts, the same steps, and files that are used again."""

import dataclasses
import gc
import json
import weakref
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg
from safetensors.torch import load_file

from retrieval.errors import TrainingError
from retrieval.train import dual_encoder, keeping
from retrieval.train.augment import NONE
from retrieval.train.batches import Batches
from retrieval.train.dual_encoder import train_dual_encoder
from retrieval.train.plan import Plan, Watcher
from retrieval.train.frozen_front import FrozenFront, KeptViews, frozen_front, rest_of
from retrieval.train.kept import Kept
from retrieval.train.learner import Learner
from retrieval.train.pairs import Pairs, Photo
from retrieval.train.processes import Processes
from retrieval.train.settings import Settings
from retrieval.train.starting import Start, start_model
from retrieval.train.trainable import Tuning, make_trainable

PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TEXT = {"context_length": 6, "vocab_size": 100, "width": 16, "heads": 2, "layers": 3}


def made(name, pool="avg"):
    torch.manual_seed(0)
    vision = {"image_size": 32, "timm_model_name": name, "timm_pool": pool, "timm_proj": "linear"}
    return open_clip.CustomTextCLIP(16, vision, TEXT).eval()


@pytest.mark.parametrize(("name", "groups", "last"), [
    ("test_resnet", 1, "trunk.layer3"),
    ("test_efficientnet", 3, "trunk.blocks.1"),
    ("test_convnext", 2, None),
    ("test_resnet", Tuning(image=1, lora=4), "trunk.layer3"),  # the largest weights lie under adapters
    ("tf_efficientnet_lite0", Tuning(image=9, lora=4), None),  # what adapters leave frozen outweighs what is in front
])
def test_both_parts_give_what_the_tower_gives(name, groups, last):
    model = made(name)
    tuning = groups if isinstance(groups, Tuning) else Tuning(image=groups)
    front = frozen_front(model, tuning, (32, 32))
    with torch.no_grad():
        whole = model.visual(PIXELS)
        torch.testing.assert_close(rest_of(model.visual, front.names)(front.layers(PIXELS)), whole)
    assert last is None or front.names[-1] == last
    learning = {one for one, tensor in make_trainable(made(name), tuning).visual.named_parameters() if tensor.requires_grad}
    assert not any(one.startswith(f"{layer}.") for one in learning for layer in front.names)


def test_what_adapters_change_stays_with_them():
    """Though they run behind it and change nothing yet: in a square convolution that could pass for the front."""
    name, tuning = "mobilenetv1_100", Tuning(image=1, lora=4)
    front = frozen_front(made(name), tuning, (32, 32))
    adapted = {one.partition(".lora_")[0] for one, _ in make_trainable(made(name), tuning).visual.named_parameters() if ".lora_" in one}
    assert front.names and not any(f"{one}.".startswith(f"{layer}.") for layer in adapted for one in front.names)
    assert not any(layer.startswith(f"{one}.") for layer in adapted for one in front.names)


def test_the_rest_has_the_towers_own_weights_and_statistics():
    model = made("test_resnet")
    front = frozen_front(model, Tuning(image=1), (32, 32))
    rest = rest_of(model.visual, front.names).train()
    own = dict(model.visual.named_parameters())
    assert all(one is own[name] for name, one in rest.named_parameters())
    before = model.visual.state_dict()["trunk.layer4.0.bn1.running_mean"].clone()
    rest(front.layers(PIXELS))
    assert not torch.equal(model.visual.state_dict()["trunk.layer4.0.bn1.running_mean"], before)


@pytest.mark.parametrize(("name", "pool", "tuning"), [
    ("test_vit", "", Tuning(image=1)),  # adds positions behind its first layer
    ("test_resnet", "avg", Tuning()),  # nothing is frozen
])
def test_none_where_there_is_none(name, pool, tuning):
    assert frozen_front(made(name, pool), tuning, (32, 32)) is None


def test_none_of_layers_without_weights():
    model = made("test_resnet")
    model.visual.trunk.conv1 = torch.nn.Sequential(torch.nn.Identity(), model.visual.trunk.conv1)
    assert frozen_front(model, Tuning(), (32, 32)) is None


PLAN = Plan(
    Start(image_tower="test_resnet:none", text_tower="gru", dim=16), Tuning(image=1, text=0, keep_statistics=True),
    Settings(epochs=2, batch_size=24, learning_rate=1e-3), NONE, train_size=64,
)


def train(pairs, output, plan, **options):
    return train_dual_encoder(pairs, output, plan, processes=Processes(), device="cpu", **options)


def test_steps_are_those_without(quarters, tmp_path):
    """But for float16."""
    anew = train(quarters, tmp_path / "anew", PLAN)
    kept = train(quarters, tmp_path / "kept", dataclasses.replace(PLAN, views=1))
    losses = [[json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
              for name in ("anew", "kept")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)
    assert kept.steps == anew.steps == 6 and kept.loss < losses[0][0] - 0.01


CROPS = dataclasses.replace(PLAN, augmentation=dataclasses.replace(NONE, crop=0.5), views=2)


def test_chunks_of_views_give_the_step_of_the_whole_batch(quarters, tmp_path):
    tuning = Tuning(image=1, text=0, keep_statistics=True)
    steps = []
    for chunk in (None, 7):
        torch.manual_seed(0)
        trainee = start_model(Start(image_tower="test_resnet:none", text_tower="transformer", dim=16))
        front = frozen_front(trainee.encoder.model, tuning, (64, 64))
        views = KeptViews(front, tmp_path, PreprocessCfg(size=64), augmentation=NONE, seed=0, device=torch.device("cpu"))
        batches = Batches(quarters, None, batch_size=24, seed=0, kept=views.of(quarters, 1, lambda count: None))
        learner = Learner(trainee, Settings(batch_size=24, chunk=chunk), tuning, 3, device=torch.device("cpu"),
                          processes=Processes(), kept=Kept(front=front.names))
        steps.append(learner.learn(next(batches.epoch(0))))
    (loss, norm), chunked = steps
    assert chunked == (pytest.approx(loss, rel=1e-5), pytest.approx(norm, rel=1e-3))


def test_resumed_within_an_epoch_as_if_it_had_never_stopped(quarters, tmp_path):
    train(quarters, tmp_path / "whole", CROPS)
    asked = iter([False] * (2 * 2 + 3) + [True])  # 72 photos of each view by 64, then steps: 3 an epoch
    stopped = train(quarters, tmp_path / "parts", CROPS, watcher=Watcher(stop=lambda: next(asked)))
    assert stopped.interrupted and (stopped.steps, stopped.epochs) == (4, 1)
    assert train(quarters, tmp_path / "parts", CROPS, resume=True).steps == 6
    one, other = (load_file(tmp_path / name / "open_clip_model.safetensors") for name in ("whole", "parts"))
    assert set(one) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_each_view_is_another_and_what_is_kept_is_used_again(quarters, tmp_path):
    reads = []

    def counted(photo):
        return Photo(photo.name, lambda: reads.append(photo.name) or photo.read())

    pairs = Pairs([counted(one) for one in quarters.photos], quarters.captions, missing=0)
    seen = []
    train(pairs, tmp_path, CROPS, watcher=Watcher(on_photos=lambda what, count: seen.append((what, count))))
    (folder,) = (tmp_path / "checkpoints" / "views").iterdir()
    first, second = (np.load(folder / f"view-{view}.npy") for view in (0, 1))
    assert first.shape == second.shape and first.shape[0] == 72 and first.dtype == np.float16
    assert np.abs(first - second).max() > 0.01
    assert sum(count for what, count in seen if what == "Frozen layers") == 2 * 72

    reads.clear()
    longer = dataclasses.replace(CROPS, settings=dataclasses.replace(CROPS.settings, epochs=3))
    train(pairs, tmp_path, longer)
    assert not reads and (folder / "view-1.npy").exists()
    train(pairs, tmp_path, dataclasses.replace(CROPS, augmentation=NONE))  # other views: the first ones are in the way
    assert len(reads) == 2 * 72 and not folder.exists()

    reads.clear()
    train(pairs, tmp_path, dataclasses.replace(CROPS, augmentation=NONE, views=1))
    (folder,) = (tmp_path / "checkpoints" / "views").iterdir()
    assert not reads and [one.name for one in folder.iterdir()] == ["view-0.npy"]
    train(pairs, tmp_path, dataclasses.replace(PLAN, settings=dataclasses.replace(PLAN.settings, epochs=1)))
    assert not (tmp_path / "checkpoints" / "views").exists()


def test_stopped_before_its_first_step(quarters, tmp_path):
    """The views that are whole stay."""
    plan = dataclasses.replace(PLAN, views=3)
    seen = []
    watcher = Watcher(on_photos=lambda what, count: seen.append(count), stop=lambda: sum(seen) > 72)
    with pytest.raises(KeyboardInterrupt):
        train(quarters, tmp_path, plan, watcher=watcher)
    (folder,) = (tmp_path / "checkpoints" / "views").iterdir()
    assert [one.name for one in folder.iterdir()] == ["view-0.npy"]


def test_views_that_the_disk_cannot_hold_are_refused_at_once(quarters, tmp_path, monkeypatch):
    seen = []
    front = frozen_front(made("test_resnet"), Tuning(image=1), (32, 32))
    views = KeptViews(front, tmp_path, PreprocessCfg(size=32), augmentation=NONE, seed=0, device=torch.device("cpu"))
    row = front.layers(PIXELS)[0].numel() * 2  # bytes
    monkeypatch.setattr("retrieval.train.frozen_front.disk_usage", lambda folder: SimpleNamespace(free=3 * 72 * row - 1))
    needed = f"{3 * 72 * row / 1e9:.1f} GB"
    with pytest.raises(TrainingError, match=f"Views of 72 photos, 3 of each, take {needed} in .* where {needed} are free. Make room"):
        views.of(quarters, 3, seen.append)
    assert not seen and not [one for one in tmp_path.rglob("*") if one.is_file()]
    assert [len(one) for one in views.of(quarters, 2, seen.append)] == [72, 72]


def test_a_views_file_grows_as_it_is_made(quarters, tmp_path):
    """So a full disk is an error at the photo that has no room; one that is mapped would kill the process."""
    front = frozen_front(made("test_resnet"), Tuning(image=1), (32, 32))
    views = KeptViews(front, tmp_path, PreprocessCfg(size=32), augmentation=NONE, seed=0, device=torch.device("cpu"))
    sizes = []
    (whole,) = views.of(quarters, 1, lambda count: sizes.append(sum(one.stat().st_size for one in tmp_path.rglob("*.tmp"))))
    (path,) = tmp_path.rglob("view-0.npy")
    first, last = sizes
    assert first < path.stat().st_size * 0.95 and last <= path.stat().st_size
    np.testing.assert_array_equal(np.load(path), whole)


def test_layers_without_weights_tell_views_apart(quarters, tmp_path):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 2, 4, stride=4).requires_grad_(False)]
    found = []
    for last in (torch.nn.ReLU(), torch.nn.Sigmoid()):
        front = FrozenFront(("0", "1"), torch.nn.Sequential(*layers, last))
        views = KeptViews(front, tmp_path, PreprocessCfg(size=32), augmentation=NONE, seed=0, device=torch.device("cpu"))
        found.append(np.array(views.of(quarters, 1, lambda count: None)[0]))
    relu, sigmoid = found
    assert (relu == 0).any() and (sigmoid > 0).all()


def test_views_are_only_read_and_batches_have_copies(quarters, tmp_path):
    """What is mapped to be written to, though only in memory, must not be larger than memory."""
    front = frozen_front(made("test_resnet"), Tuning(image=1), (32, 32))
    views = KeptViews(front, tmp_path, PreprocessCfg(size=32), augmentation=NONE, seed=0, device=torch.device("cpu"))
    kept = views.of(quarters, 2, lambda count: None)
    assert all(isinstance(one, np.memmap) and one.mode == "r" for one in kept)
    batch = next(Batches(quarters, None, batch_size=8, seed=0, kept=kept).epoch(0))
    for row, photo in zip(batch.pixels.numpy(), batch.photos.tolist()):
        assert any(np.array_equal(row, one[photo]) for one in kept)
    batch.pixels.zero_()


def test_the_front_is_gone_when_learning_begins(quarters, tmp_path, monkeypatch):
    """It would stay in a GPU's memory."""
    layers = []

    def found(*given):
        front = frozen_front(*given)
        layers.append(weakref.ref(front.layers))
        return front

    def learner(*given, kept, **options):
        gc.collect()
        assert kept.front[-1] == "trunk.layer3" and [one() for one in layers] == [None]
        raise TrainingError("as far as this test goes")

    monkeypatch.setattr(keeping, "frozen_front", found)
    monkeypatch.setattr(dual_encoder, "Learner", learner)
    with pytest.raises(TrainingError, match="as far as this test goes"):
        train(quarters, tmp_path, dataclasses.replace(PLAN, views=1))


def test_a_photo_that_cannot_be_read_is_named(quarters, tmp_path):
    cut = Photo("cut.jpg", lambda: quarters.photos[0].read()[:700])
    pairs = Pairs([cut, *quarters.photos[1:]], quarters.captions, missing=0)
    with pytest.raises(TrainingError, match="cut.jpg"):
        train(pairs, tmp_path, dataclasses.replace(PLAN, views=1))


def test_a_tower_that_cannot_be_parted(quarters, tmp_path, tiny_model):
    plan = Plan(Start(model=str(tiny_model)), Tuning(image=1), Settings(epochs=1, batch_size=16), views=2)
    with pytest.raises(TrainingError, match="none that can be taken apart.*Leave --views out"):
        train(quarters, tmp_path, plan)
