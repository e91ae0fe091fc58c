"""Gradients in chunks are those of the whole batch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from retrieval.train.gradient_cache import backward
from retrieval.train.losses import infonce, siglip

OWNERS = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4, 5, 6])  # 11 texts of 7 images


class Towers(nn.Module):
    def __init__(self, dropout: float = 0.0, dtype: torch.dtype = torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 6))
        self.text = nn.Sequential(nn.Embedding(20, 8), nn.Dropout(dropout), nn.Flatten(), nn.Linear(40, 6))
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.seen = []
        self.to(dtype)

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(pixels))
        return F.normalize(self.image(pixels), dim=-1)

    def texts(self, tokens: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(tokens))
        return F.normalize(self.text(tokens), dim=-1)

    def loss(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return siglip(images, texts, OWNERS, self.scale, self.bias) + infonce(images, texts, OWNERS, self.scale)

    def gradients(self) -> dict[str, torch.Tensor]:
        return {name: one.grad for name, one in self.named_parameters() if one.grad is not None}


def batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    return torch.randn(7, 3, 2, 2, generator=chance, dtype=dtype), torch.randint(20, (11, 5), generator=chance)


def of_the_whole_batch(towers: Towers, chunk: int | None = None) -> float:
    """One graph of all rows, although dropout may fall chunk by chunk, as it does in the cache."""
    pixels, tokens = batch(towers.scale.dtype)
    torch.manual_seed(2)
    images = torch.cat([towers.images(one) for one in pixels.split(chunk or 99)])
    texts = torch.cat([towers.texts(one) for one in tokens.split(chunk or 99)])
    loss = towers.loss(images, texts)
    loss.backward()
    return loss.item()


def cached(towers: Towers, chunk: int) -> float:
    torch.manual_seed(2)
    return backward(towers.images, towers.texts, *batch(towers.scale.dtype), towers.loss, chunk=chunk)


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 11, 99])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_of_the_whole_batch(chunk, dropout):
    whole, chunked = Towers(dropout), Towers(dropout)
    assert cached(chunked, chunk) == pytest.approx(of_the_whole_batch(whole, chunk if dropout else None), abs=1e-12)
    expected = whole.gradients()
    assert set(chunked.gradients()) == set(expected) == set(dict(whole.named_parameters()))
    for name, gradient in chunked.gradients().items():
        assert expected[name].abs().max() > 1e-4, name
        torch.testing.assert_close(gradient, expected[name], atol=1e-12, rtol=1e-10, msg=name)


@pytest.mark.parametrize("frozen", [None, "image", "text"])
def test_random_numbers_go_on_as_if_nothing_was_embedded_twice(frozen):
    whole, chunked = Towers(0.5), Towers(0.5)
    for towers in (whole, chunked):
        for parameter in getattr(towers, frozen).parameters() if frozen else ():
            parameter.requires_grad_(False)
    of_the_whole_batch(whole, 3)
    expected = torch.rand(4)
    cached(chunked, 3)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("chunk", "seen"),
    [(4, [4, 3, 4, 4, 3, 4, 3, 4, 4, 3]), (8, [7, 8, 3, 8, 3]), (11, [7, 11])],
    ids=["both twice", "texts twice", "both once"],
)
def test_no_more_than_a_chunk_at_once_and_no_more_than_needed_twice(chunk, seen):
    towers = Towers()
    cached(towers, chunk)
    assert towers.seen == seen


def test_gradients_add_up():
    once, twice = Towers(), Towers()
    cached(once, 3)
    cached(twice, 3)
    cached(twice, 3)
    for name, gradient in once.gradients().items():
        torch.testing.assert_close(twice.gradients()[name], 2 * gradient)


def test_a_frozen_tower_gets_none_and_is_not_embedded_to_the_end_twice():
    whole, frozen = Towers(0.5), Towers(0.5)
    frozen.image.requires_grad_(False)
    of_the_whole_batch(whole, 3)
    cached(frozen, 3)
    assert frozen.seen == [3, 3, 1, 3, 3, 3, 2, 3, 3, 3, 3, 2]
    assert not [name for name in frozen.gradients() if name.startswith("image")]
    for name, gradient in frozen.gradients().items():
        torch.testing.assert_close(gradient, whole.gradients()[name])


def test_inside_autocast():
    whole, chunked = Towers(dtype=torch.float32), Towers(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        expected = of_the_whole_batch(whole, 3)
        assert cached(chunked, 3) == pytest.approx(expected, abs=1e-6)
    assert set(chunked.gradients()) == set(whole.gradients())
    for name, gradient in chunked.gradients().items():  # sums of chunks are rounded to bfloat16 in another order
        torch.testing.assert_close(gradient, whole.gradients()[name], atol=2e-2, rtol=2e-2, msg=name)
