"""The loss by hand, and a loop that learns, repeats itself, and stops when it must."""

import math

import pytest
import torch

from retrieval.errors import TrainingError
from retrieval.train.projection_loop import Examples, Settings, info_nce, train
from retrieval.train.prototypes import Prototypes


def test_info_nce_by_hand():
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # scores: image 0 sees 1 and 0.6; image 1 sees 0 and 0.8; scale 2
    rows = math.log(1 + math.exp(2 * (0.6 - 1))) + math.log(1 + math.exp(2 * (0 - 0.8)))
    columns = math.log(1 + math.exp(2 * (0 - 1))) + math.log(1 + math.exp(2 * (0.6 - 0.8)))
    expected = (rows / 2 + columns / 2) / 2
    assert info_nce(images, texts, torch.tensor(2.0)).item() == pytest.approx(expected, abs=1e-6)


def made_examples(n: int = 128, views: int = 2) -> Examples:
    """Photos and captions that are two noisy linear views of the same hidden thing."""
    chance = torch.Generator().manual_seed(1)
    hidden = torch.randn(n, 8, generator=chance)
    to_image, to_text = torch.randn(8, 24, generator=chance), torch.randn(8, 12, generator=chance)
    counts = torch.tensor([1, 2, 3, 5] * (n // 4))
    photos = torch.stack([
        hidden @ to_image + 0.1 * torch.randn(n, 24, generator=chance) for _ in range(views)
    ])
    texts = (hidden @ to_text).repeat_interleave(counts, 0)
    texts = texts + 0.1 * torch.randn(texts.shape, generator=chance)

    def unit(x):
        return torch.nn.functional.normalize(x, dim=-1).half()

    return Examples(unit(photos), unit(texts), counts)


SETTINGS = Settings(dim=8, epochs=60, batch_size=32, learning_rate=1e-2, image_dropout=0, text_dropout=0)


def test_learns_to_match():
    examples = made_examples()
    epochs = []
    projections = train(examples, SETTINGS, on_epoch=epochs.append)
    firsts = examples.counts.cumsum(0) - examples.counts
    with torch.no_grad():
        images, texts = projections(examples.photos[0].float(), examples.texts[firsts].float())
    found = (images @ texts.T).argmax(1)
    assert (found == torch.arange(len(found))).float().mean() > 0.95
    assert [epoch.number for epoch in epochs] == list(range(1, 61))
    assert epochs[-1].loss < epochs[0].loss / 4
    assert epochs[-1].temperature != SETTINGS.temperature  # it is learned


def test_same_seed_same_result_other_seed_another():
    one, again = train(made_examples(), SETTINGS), train(made_examples(), SETTINGS)
    assert torch.equal(one.image.weight, again.image.weight)
    assert torch.equal(one.logit_scale, again.logit_scale)
    other = train(made_examples(), Settings(**{**vars(SETTINGS), "seed": 1}))
    assert not torch.equal(one.image.weight, other.image.weight)


def test_batch_larger_than_the_set_is_the_whole_set():
    epochs = []
    train(made_examples(64), Settings(dim=8, epochs=2, batch_size=4096), on_epoch=epochs.append)
    assert len(epochs) == 2


def test_loss_that_is_no_number_stops_and_says_what_to_do():
    with pytest.raises(TrainingError, match=r"^The loss is (nan|inf) in epoch 1, step [23]\. Lower --learning-rate"):
        train(made_examples(), Settings(**{**vars(SETTINGS), "learning_rate": 1e38}))


@pytest.mark.parametrize("epochs", [1, 2, 3, 9, 10, 11, 20, 21])
def test_any_number_of_steps(epochs):
    done = []
    train(made_examples(64), Settings(dim=8, epochs=epochs, batch_size=64), on_epoch=done.append)
    assert [epoch.number for epoch in done] == list(range(1, epochs + 1))


def test_more_prototypes_than_classes_are_all_classes():
    examples = made_examples(64)
    few = Prototypes(torch.rand(5, 24), torch.rand(5, 2, 12))
    examples = Examples(examples.photos, examples.texts, examples.counts, few)
    done = []
    train(examples, Settings(dim=8, epochs=2, prototype_share=1.0), on_epoch=done.append)
    assert len(done) == 2 and math.isfinite(done[-1].loss)
