"""One step at a time: schedule, number formats, averages, and losses that are no numbers."""

import dataclasses
import math

import pytest
import torch

from retrieval.encoders.compiled import Compiled
from retrieval.errors import DivergedError, TrainingError
from retrieval.train.batches import Batches
from retrieval.train.kept import Kept
from retrieval.train.learner import Learner, rate
from retrieval.train.processes import Processes
from retrieval.train.starting import Start, start_model
from retrieval.train.dual_encoder import for_loss
from retrieval.train.plan import Plan, training_transform
from retrieval.train.settings import Settings
from retrieval.train.trainable import Tuning
from open_clip.transform import PreprocessCfg

SETTINGS = Settings(batch_size=16, learning_rate=1e-3, warm_up=0.0, seed=3)


@pytest.fixture
def begin(tiny_model, quarters):
    def make(settings=SETTINGS, steps=20, teacher=None, tuning=Tuning()):
        trainee = for_loss(start_model(Start(model=str(tiny_model))), settings.loss)
        transform = training_transform(PreprocessCfg(**trainee.encoder.preprocessing), Plan(Start()))
        batches = Batches(quarters, transform, batch_size=settings.batch_size, seed=settings.seed,
                          captions_per_photo=settings.captions_per_photo)
        learner = Learner(trainee, settings, tuning, steps, device=torch.device("cpu"), processes=Processes(),
                          teacher=teacher)
        return learner, list(batches.epoch(0))

    return make


def test_rate_rises_and_falls():
    assert [rate(step, 20, 0.2) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert rate(4, 20, 0.2) == 1.0
    assert rate(12, 20, 0.2) == pytest.approx(0.5)
    assert rate(19, 20, 0.2) == pytest.approx((1 + math.cos(math.pi * 15 / 16)) / 2)


def test_loss_falls(begin):
    learner, batches = begin()
    losses = [learner.learn(batch)[0] for _ in range(4) for batch in batches]
    assert learner.done == 16
    assert losses[0] == pytest.approx(math.log(16), abs=1.0)  # random weights know nothing
    assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4 - 0.5


@pytest.mark.parametrize("loss", ["siglip", "vse++"])
def test_other_losses_fall_too(begin, loss):
    learner, batches = begin(dataclasses.replace(SETTINGS, loss=loss))
    losses = [learner.learn(batch)[0] for _ in range(4) for batch in batches]
    assert sum(losses[-4:]) < sum(losses[:4])


def test_chunks_give_the_step_of_the_whole_batch(begin):
    whole, batches = begin()
    parts, _ = begin(dataclasses.replace(SETTINGS, chunk=5))
    assert parts.learn(batches[0]) == pytest.approx(whole.learn(batches[0]), rel=1e-5)
    for name, one in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], one, rtol=0, atol=2e-5)


def test_all_captions_of_a_photo(begin):
    learner, batches = begin(dataclasses.replace(SETTINGS, captions_per_photo=0))
    assert len(batches[0].texts) == 32 and len(batches[0].photos) == 16
    assert math.isfinite(learner.learn(batches[0])[0])


def test_bfloat16_learns_what_is_too_small_for_it(begin):
    """A weight near 1 cannot move by 1e-5 in bfloat16; the float32 copy does, and in time the model follows."""
    learner, batches = begin(dataclasses.replace(SETTINGS, precision="bfloat16", learning_rate=1e-5, weight_decay=0.0))
    name = "visual.ln_post.weight"  # ones, at first
    assert dict(learner.model.named_parameters())[name].dtype == torch.bfloat16
    before = learner.weights[name].clone()
    learner.learn(batches[0])
    assert torch.equal(dict(learner.model.named_parameters())[name].float(), torch.ones(64))
    moved = (learner.weights[name] - before).abs()
    assert learner.weights[name].dtype == torch.float32 and 0.9e-5 < moved.max() < 1.1e-5
    finished = learner.finished(learner.outcome())
    assert torch.equal(dict(finished.named_parameters())[name], learner.weights[name])


def test_frozen_weights_come_out_as_they_were_though_they_ran_in_bfloat16(begin, tiny_encoder):
    learner, batches = begin(dataclasses.replace(SETTINGS, precision="bfloat16"), tuning=Tuning(text=0))
    learner.learn(batches[0])
    finished = learner.finished(learner.outcome()).state_dict()
    name = "transformer.resblocks.0.mlp.c_fc.weight"
    assert torch.equal(finished[name], tiny_encoder._model.state_dict()[name])
    assert not torch.equal(finished[name], finished[name].bfloat16().float())


def test_bfloat16_gives_nearly_the_same_loss(begin):
    exact, batches = begin()
    rough, _ = begin(dataclasses.replace(SETTINGS, precision="bfloat16"))
    assert rough.learn(batches[0])[0] == pytest.approx(exact.learn(batches[0])[0], abs=0.05)


def test_moving_average_by_hand(begin):
    learner, batches = begin(dataclasses.replace(SETTINGS, average=0.5))
    name = "text_projection"
    expected = learner.weights[name].detach().clone()
    for step, batch in enumerate(batches[:3], 1):
        learner.learn(batch)
        decay = min(0.5, (1 + step - 1) / (10 + step - 1))
        expected = decay * expected + (1 - decay) * learner.weights[name].detach()
    torch.testing.assert_close(learner.average[name], expected)
    live = learner.weights[name].detach().clone()
    with learner.at_rest():
        assert torch.equal(dict(learner.model.named_parameters())[name], learner.average[name])
        assert not learner.model.training
    assert torch.equal(dict(learner.model.named_parameters())[name], live)
    assert torch.equal(learner.outcome()[name], learner.average[name])


def test_temperature_stays_in_bounds(begin):
    learner, batches = begin()
    with torch.no_grad():
        learner.model.logit_scale.fill_(math.log(100))
    learner.learn(batches[0])
    assert learner.temperature >= 0.01 - 1e-6


def test_a_loss_that_is_no_number_stops_and_leaves_the_weights(begin):
    learner, batches = begin()
    learner.learn(batches[0])
    before = {name: one.detach().clone() for name, one in learner.weights.items()}
    loss = learner._loss
    learner._loss = lambda *given: loss(*given) * float("nan")
    with pytest.raises(DivergedError, match="The loss is nan .* at step 2 of 20. Lower the learning rate"):
        learner.learn(batches[1])
    assert all(torch.equal(one, before[name]) for name, one in learner.weights.items())
    assert learner.done == 1


def test_unknown_loss(begin):
    with pytest.raises(TrainingError, match="infonce"):
        begin(dataclasses.replace(SETTINGS, loss="infonse"))


@pytest.mark.parametrize("tuning", [Tuning(), Tuning(image=1)], ids=["whole", "frozen in part"])
def test_a_compiled_tower_learns_the_same(begin, tuning):
    plain, batches = begin(tuning=tuning)
    learner, _ = begin(dataclasses.replace(SETTINGS, compile=True), tuning=tuning)
    compiled = Compiled(learner.model.encode_image, "tiny", "aot_eager")  # all but the compiler itself
    learner._compiled = compiled
    for batch in batches[:3]:
        assert learner.learn(batch) == pytest.approx(plain.learn(batch), rel=1e-4)
    assert compiled._compiled is not None  # it did not give up
    for name, one in plain.weights.items():
        torch.testing.assert_close(learner.weights[name], one, rtol=0, atol=2e-5)


def test_dropout_behind_kept_outputs_without_a_plane():
    trainee = start_model(Start(image_tower="test_resnet:none", text_tower="transformer", dim=8))
    trainee.encoder.model.eval()
    learner = Learner(trainee, dataclasses.replace(SETTINGS, image_dropout=0.5), Tuning(image=0), 1,
                      device=torch.device("cpu"), processes=Processes(), kept=Kept(front=("trunk",)))
    outputs = torch.rand(4, trainee.encoder.model.visual.trunk.num_features, generator=torch.Generator().manual_seed(2))
    with learner.at_rest():  # as after an epoch
        pass
    torch.manual_seed(0)
    assert not torch.equal(learner.embed_kept(outputs.half()), learner.embed_kept(outputs.half()))
