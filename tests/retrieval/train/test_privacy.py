"""What one example can do is bounded and lost in noise, and it still learns."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retrieval.errors import TrainingError
from retrieval.train.projection_loop import Examples, Projections, Settings, info_nce
from retrieval.train.privacy import clipped_sum, pair_losses, train_privately, with_noise
from retrieval.train.privacy_budget import PrivacySettings
from retrieval.train.prototypes import Prototypes
from retrieval.train.public_bank import moved

pytest.importorskip("opacus")
SCALE = torch.tensor(5.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Projections(7, 5, 4, temperature=0.2)


def rows(n, width, seed, dtype=torch.float32):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


PHOTOS, TEXTS = rows(6, 7, 1), rows(6, 5, 2)
BANK = F.normalize(rows(9, 4, 3), dim=-1), F.normalize(rows(11, 4, 4), dim=-1)


def test_a_pairs_loss_by_hand():
    image, text = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    bank = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    # its own score is 0.6; its text scores 0.8 with the bank's image, its image 1 and 0 with the bank's texts
    among_texts = math.log(math.exp(1.2) + math.exp(2) + 1) - 1.2
    among_images = math.log(math.exp(1.2) + math.exp(1.6)) - 1.2
    loss = pair_losses(image, text, bank, torch.tensor(2.0))
    assert loss.tolist() == pytest.approx([(among_texts + among_images) / 2])


def one_by_one(model, photos, texts, clip):
    """The plain way: a backward pass for every example, its gradient shortened, all added up."""
    weights = [model.image.weight, model.text.weight]
    totals = [torch.zeros_like(weight) for weight in weights]
    lengths = []
    for photo, text in zip(photos, texts):
        loss = pair_losses(*model(photo[None], text[None]), BANK, SCALE)[0]
        gradients = torch.autograd.grad(loss, weights)
        lengths.append(math.sqrt(sum(float(one.square().sum()) for one in gradients)))
        for total, one in zip(totals, gradients):
            total += one * min(1.0, clip / lengths[-1])
    return totals, lengths


def test_clipped_gradients_are_those_of_single_examples(model):
    _, lengths = one_by_one(model, PHOTOS, TEXTS, 1.0)
    clip = float(np.median(lengths))  # shortens some and not others
    expected, _ = one_by_one(model, PHOTOS, TEXTS, clip)
    for found, wanted in zip(clipped_sum(model, PHOTOS, TEXTS, BANK, SCALE, clip), expected):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_clipped_gradients_are_those_of_opacus(model):
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    ours = clipped_sum(model, PHOTOS, TEXTS, BANK, SCALE, 1.5)
    model.logit_scale.requires_grad_(False)
    watched = GradSampleModule(model, loss_reduction="sum")
    optimizer = DPOptimizer(
        torch.optim.SGD([model.image.weight, model.text.weight], 0.1),
        noise_multiplier=0.0, max_grad_norm=1.5, expected_batch_size=6,
    )
    pair_losses(*watched(PHOTOS, TEXTS), BANK, SCALE).sum().backward()
    optimizer.clip_and_accumulate()
    for found, weight in zip(ours, (model.image.weight, model.text.weight)):
        torch.testing.assert_close(found, weight.summed_grad, rtol=1e-4, atol=1e-5)


def difference(one, other):
    return math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(one, other)))


def test_one_example_adds_at_most_the_clip(model):
    clip = 0.3
    whole = clipped_sum(model, PHOTOS, TEXTS, BANK, SCALE, clip)
    for left_out in range(6):
        kept = [index for index in range(6) if index != left_out]
        without = clipped_sum(model, PHOTOS[kept], TEXTS[kept], BANK, SCALE, clip)
        alone = clipped_sum(model, PHOTOS[[left_out]], TEXTS[[left_out]], BANK, SCALE, clip)
        assert difference(whole, without) == pytest.approx(clip, rel=1e-4)  # all are longer than that
        for total, rest, one in zip(whole, without, alone):  # it speaks in nobody else's loss
            torch.testing.assert_close(total, rest + one)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_changed_example_moves_the_sum_by_at_most_two_clips(model, size):
    changed = PHOTOS.clone(), TEXTS.clone()
    changed[0][2], changed[1][2] = -size * PHOTOS[3], size * TEXTS[5]
    before, after = (clipped_sum(model, *pairs, BANK, SCALE, 0.3) for pairs in ((PHOTOS, TEXTS), changed))
    assert 0 < difference(before, after) <= 0.6 * 1.0001


def test_an_empty_batch_has_no_gradient(model):
    assert all((one == 0).all() for one in clipped_sum(model, PHOTOS[:0], TEXTS[:0], BANK, SCALE, 1.0))


def test_noise_is_as_strong_as_asked():
    noisy = with_noise(torch.full((300, 300), 2.0), 0.7, np.random.default_rng(3))
    assert noisy.mean().item() == pytest.approx(2, abs=0.02) and noisy.std().item() == pytest.approx(0.7, abs=0.01)


def made_examples(n=1200, classes=80):
    """Photos and captions of hidden things; the public classes differ in half of what things differ in.

    Besides, all photos have something that no prototype has, and all captions what no name has.
    """
    chance = torch.Generator().manual_seed(1)
    to_image, to_text = torch.randn(8, 24, generator=chance), torch.randn(8, 12, generator=chance)

    def seen(hidden):
        photos = (hidden @ to_image).relu() + 0.05 * torch.rand(len(hidden), 24, generator=chance)
        return F.normalize(photos, dim=-1), F.normalize(hidden @ to_text, dim=-1)

    photos, texts = (
        F.normalize(side + torch.rand(side.shape[1], generator=chance) / side.shape[1] ** 0.5, dim=-1)
        for side in seen(torch.randn(n, 8, generator=chance))
    )
    public = torch.randn(classes, 8, generator=chance)
    public[:, 4:] = 0.3 * torch.randn(classes, 4, generator=chance)
    directions, names = seen(public)
    return Examples(photos[None].half(), texts.half(), torch.ones(n, dtype=torch.long), Prototypes(directions, names[:, None]))


SETTINGS = Settings(dim=8, epochs=15, batch_size=300, learning_rate=2e-2, weight_decay=0.0, image_dropout=0, text_dropout=0)
DELTA = 1e-4


def found(projections, examples, among=200):
    """R@1 among the first photos."""
    with torch.no_grad():
        images, texts = projections(examples.photos[0, :among].float(), examples.texts[:among].float())
    return (texts @ images.T).argmax(1).eq(torch.arange(among)).float().mean().item()


def test_learns_under_noise():
    examples = made_examples()
    epochs = []
    projections, spent = train_privately(
        examples, SETTINGS, PrivacySettings(epsilon=4.0, delta=DELTA), epochs.append, secret=0
    )
    assert 3.95 < spent.epsilon <= 4.0 and spent.steps == 60
    assert [epoch.number for epoch in epochs] == list(range(1, 16))
    drowned, _ = train_privately(examples, SETTINGS, PrivacySettings(noise=1000.0, delta=DELTA), secret=0)
    assert found(projections, examples) > 0.75  # chance is 0.005; 0.66 against a bank that was not moved
    assert found(projections, examples) > 3 * found(drowned, examples)  # it is not the public pairs alone


class Same(Prototypes):
    """Prototypes that draw the same pairs every time."""

    def draw(self, photos, chance):
        return self.directions, self.texts[:, 0]

    def to(self, device):
        return self


def test_without_noise_it_is_clipped_descent():
    """Every example in every batch, five steps; the same by a loop over examples."""
    examples = made_examples(n=12, classes=5)
    classes = Same(examples.prototypes.directions, examples.prototypes.texts)
    examples = Examples(examples.photos, examples.texts, examples.counts, classes)
    settings = Settings(
        dim=4, epochs=5, batch_size=12, learning_rate=0.05, weight_decay=0.1, image_dropout=0, text_dropout=0,
        prototype_share=0, seed=3,
    )
    epochs = []
    ours, spent = train_privately(examples, settings, PrivacySettings(noise=0.0, delta=0.01, clip=0.8), epochs.append)
    assert spent.epsilon == math.inf and spent.steps == 5

    torch.manual_seed(3)
    model = Projections(24, 12, 4, settings.temperature)
    weights = [model.image.weight, model.text.weight]
    optimizer = torch.optim.AdamW(weights, lr=0.05, betas=(0.9, 0.98), weight_decay=0.1)
    photos, texts = (F.normalize(one.float(), dim=-1) for one in (examples.photos[0], examples.texts))
    public_photos, public_texts = moved(classes.directions, photos.mean(0)), moved(classes.texts[:, 0], texts.mean(0))
    photos, texts, public_photos, public_texts = (
        F.normalize(one, dim=-1) * one.shape[-1] ** 0.5 for one in (photos, texts, public_photos, public_texts)
    )
    for epoch in epochs:
        bank = tuple(side.detach() for side in model(public_photos, public_texts))
        # what is reported is of the public pairs
        assert epoch.loss == pytest.approx(info_nce(*bank, torch.tensor(1 / settings.temperature)).item(), rel=1e-3)
        totals = [torch.zeros_like(weight) for weight in weights]
        for photo, text in zip(photos, texts):
            loss = pair_losses(*model(photo[None], text[None]), bank, torch.tensor(1 / settings.temperature))[0]
            gradients = torch.autograd.grad(loss, weights)
            length = math.sqrt(sum(float(one.square().sum()) for one in gradients))
            for total, one in zip(totals, gradients):
                total += one * min(1.0, 0.8 / length)
        for weight, total in zip(weights, totals):
            weight.grad = total / 12
        optimizer.step()
    torch.testing.assert_close(ours.image.weight, model.image.weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.text.weight, model.text.weight, rtol=1e-3, atol=1e-4)


SHORT = Settings(**{**vars(SETTINGS), "epochs": 1})


def test_the_seed_that_is_written_down_does_not_decide_the_noise():
    examples = made_examples(n=300, classes=20)
    private = PrivacySettings(noise=1.0, delta=DELTA)
    one, other = (train_privately(examples, SHORT, private)[0] for _ in range(2))
    assert not torch.equal(one.image.weight, other.image.weight)
    same, again = (train_privately(examples, SHORT, private, secret=5)[0] for _ in range(2))
    assert torch.equal(same.image.weight, again.image.weight) and torch.equal(same.text.weight, again.text.weight)


def test_starts_where_it_is_told_to_and_leaves_that_as_it_was():
    examples = made_examples(n=300, classes=20)
    start = Projections(24, 12, 6, temperature=0.1)
    before = start.image.weight.clone()
    still = Settings(**{**vars(SHORT), "learning_rate": 1e-9})
    projections, _ = train_privately(examples, still, PrivacySettings(noise=1.0, delta=DELTA), start=start)
    torch.testing.assert_close(projections.image.weight, before)
    assert torch.equal(start.image.weight, before) and math.exp(-projections.logit_scale.item()) == pytest.approx(0.1)
    with pytest.raises(TrainingError, match="start from take 9 and 12 numbers, these towers give 24 and 12"):
        train_privately(examples, still, PrivacySettings(noise=1.0, delta=DELTA), start=Projections(9, 12, 6, 0.1))


def test_further_public_texts_compete_too():
    examples = made_examples(n=300, classes=20)
    queries = torch.rand(40, 12, generator=torch.Generator().manual_seed(0))
    private = PrivacySettings(noise=1.0, delta=DELTA)
    without, with_them = (
        train_privately(examples, SHORT, private, queries=more, secret=5)[0] for more in (None, queries)
    )
    assert not torch.equal(without.image.weight, with_them.image.weight)


def test_what_cannot_be_trained_on():
    examples = made_examples(n=300, classes=20)
    private = PrivacySettings(noise=1.0, delta=DELTA)
    with pytest.raises(TrainingError, match="needs class prototypes"):
        train_privately(Examples(examples.photos, examples.texts, examples.counts), SHORT, private)
    broken = examples.texts.clone()
    broken[7, 3] = math.nan
    with pytest.raises(TrainingError, match="not finite"):
        train_privately(Examples(examples.photos, broken, examples.counts, examples.prototypes), SHORT, private)
    wild = Settings(**{**vars(SHORT), "learning_rate": 1e38, "epochs": 60})
    with pytest.raises(TrainingError, match=r"ran away in epoch \d+. Lower --learning-rate"):
        train_privately(examples, wild, private)
