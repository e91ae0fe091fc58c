"""The bank lies where the examples lie, and what it takes for that is told under noise."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retrieval.train.projection_loop import Examples
from retrieval.train.prototypes import Prototypes
from retrieval.train.public_bank import PublicBank, moved, noisy_means


def test_moved_by_hand():
    rows = torch.tensor([[2.0, 0.0], [0.0, 3.0]])  # of unit length their mean is (0.5, 0.5), its square 0.5
    mean = torch.tensor([0.6, 0.0])  # unit rows about it would lie at a squared distance of 0.64
    spread = (0.64 / 0.5) ** 0.5
    expected = torch.tensor([[0.6 + spread / 2, -spread / 2], [0.6 - spread / 2, spread / 2]])
    torch.testing.assert_close(moved(rows, mean), expected)
    torch.testing.assert_close(moved(rows, torch.tensor([0.5, 0.5])), F.normalize(rows, dim=-1))
    assert torch.isfinite(moved(rows[:1], mean)).all()  # a single row has no spread


def examples():
    photos = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 0.0, 9.0], [0.0, 0.0, 9.0]]]).half()
    texts = torch.tensor([[1.0, 0.0], [0.0, 4.0], [0.0, 1.0]]).half()
    return Examples(photos, texts, torch.tensor([2, 1]))


def test_means_by_hand():
    """Every photo counts once, and so do its captions together."""
    photo, text = noisy_means(examples(), 0.0, np.random.default_rng(0))
    assert photo.tolist() == [0.5, 0.5, 0.0]
    assert text.tolist() == [0.25, 0.75]


def test_noise_of_means_is_as_strong_as_asked():
    n, width = 400, 3000
    some = Examples(torch.ones(1, n, width).half(), torch.ones(n, width).half(), torch.ones(n, dtype=torch.long))
    photo, text = noisy_means(some, 2.0, np.random.default_rng(1))
    plain, _ = noisy_means(some, 0.0, np.random.default_rng(1))
    deviation = 2.0 * 2**0.5 / n  # 0.00707, which adds 0.15 to the square of the length, 1
    drawn_back = 1 - width * deviation**2 / (1 + width * deviation**2)
    assert (photo / drawn_back - plain).std().item() == pytest.approx(deviation, rel=0.05)
    assert not torch.equal(photo, text)
    drowned, _ = noisy_means(some, 2e6, np.random.default_rng(1))  # of what is noise alone hardly anything is left
    assert drowned.norm().item() < 0.1 * (1e6 * deviation * width**0.5)


def test_draws_pairs_and_further_texts_about_the_means():
    directions = F.normalize(torch.rand(30, 6), dim=-1)
    names, queries = torch.rand(30, 2, 4), torch.rand(7, 4)
    bank = PublicBank(Prototypes(directions, names), queries, torch.full((6,), 0.3), torch.full((4,), -0.2))
    photos, texts = bank.draw(torch.Generator().manual_seed(0))
    assert photos.shape == (30, 6) and texts.shape == (37, 4)
    torch.testing.assert_close(photos.mean(0), torch.full((6,), 0.3))
    torch.testing.assert_close(texts.mean(0), torch.full((4,), -0.2))
    again, _ = bank.draw(torch.Generator().manual_seed(0))
    assert torch.equal(photos, again)
