"""Training a cross-encoder: which of the images that the dual encoder confuses does a caption belong to?

For a caption its image competes with hard negatives, images that the dual encoder ranks near the top
for it; the loss is the cross-entropy of the right one among them. The towers stay as they are, so their
tokens are computed once. So do the first projections: those of the dual encoder, onto the directions in
which its vectors differ most. Words and places then begin in one space, and what is kept of an image is
small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic
from typing import Callable

import numpy as np
import torch
from torch.nn import functional as F

from indexes import exact_search
from retrieval.errors import TrainingError
from retrieval.rank.cross_encoder import CrossEncoder, Shape

LEAST_IMAGES = 8
_IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class MatchSettings:
    """What decides the result, besides the data.

    negatives  images that compete with a caption's own, drawn from its `hardest`
    minutes    to stop after; None: all epochs
    """

    epochs: int = 2
    batch_size: int = 32  # captions in a step
    negatives: int = 15
    hardest: int = 100
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    dropout: float = 0.1
    token_dropout: float = 0.2  # values of towers' tokens
    minutes: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class MatchExamples:
    """Tokens of frozen towers, and the dual encoder's vectors to find hard negatives with.

    places  (n, p, image width) float16, images' tokens: an array, a memory map, or anything with a length
            and a shape that can be sliced and indexed by rows
    words   (c, w, text width) float16, captions' tokens; there: (c, w) bool, which are words
    owners  (c,) int64, each caption's image
    images  (n, d), texts (c, d) float32 unit rows
    image_projection, text_projection  (d, image width), (d, text width): of the dual encoder
    """

    places: np.ndarray
    words: np.ndarray
    there: np.ndarray
    owners: np.ndarray
    images: np.ndarray
    texts: np.ndarray
    image_projection: np.ndarray
    text_projection: np.ndarray


@dataclass(frozen=True)
class Progress:
    """After a step: of how many, the mean loss and share of right choices since the last report."""

    step: int
    steps: int
    loss: float
    right: float


def train_match(
    examples: MatchExamples, settings: MatchSettings = MatchSettings(), *, width: int = 128, layers: int = 2,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> CrossEncoder:
    """Train and return a cross-encoder. The same seed gives the same result, unless `minutes` ends it.

    Raises TrainingError for too few images, or if the loss is no longer a number.
    """
    n, places, image_width = examples.places.shape
    if n < LEAST_IMAGES:
        raise TrainingError(f"{n} captioned images are too few to train a cross-encoder on; {LEAST_IMAGES} are the least.")
    torch.manual_seed(settings.seed)
    chance = np.random.default_rng(settings.seed)
    model = CrossEncoder(
        Shape(image_width, examples.words.shape[-1], places, width=width, layers=layers), settings.dropout
    ).train()
    _begin_in_one_space(model, examples)
    seen = _projected(model, examples.places)
    hard = hard_negatives(examples, min(settings.hardest, n - 1))
    negatives = min(settings.negatives, hard.shape[1])
    steps = settings.epochs * max(1, len(examples.owners) // settings.batch_size)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], settings.learning_rate, weight_decay=settings.weight_decay)
    begun, recent = monotonic(), []
    captions = np.concatenate([chance.permutation(len(examples.owners)) for _ in range(settings.epochs)])
    for step in range(steps):
        spent = (monotonic() - begun) / 60
        done = max(step / steps, spent / settings.minutes if settings.minutes else 0)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * done))
        batch = captions[step * settings.batch_size : (step + 1) * settings.batch_size]
        others = np.stack([chance.choice(hard[one], negatives, replace=False) for one in batch])  # (b, m)
        compared = np.concatenate([examples.owners[batch][:, None], others], 1)  # (b, 1 + m), the right one first
        logits = _scores(model, examples, seen, batch, compared, settings.token_dropout)
        loss = F.cross_entropy(logits, torch.zeros(len(batch), dtype=torch.long))
        if not torch.isfinite(loss):
            raise TrainingError(f"The loss is {loss.item()} in step {step}. Lower --learning-rate (now {settings.learning_rate}).")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append((loss.item(), float((logits.argmax(1) == 0).float().mean())))
        if (step + 1) % 50 == 0 or step + 1 == steps:
            on_progress(Progress(step + 1, steps, *np.mean(recent, 0).tolist()))
            recent = []
    return model.eval()


def hard_negatives(examples: MatchExamples, m: int) -> np.ndarray:
    """The m images that score highest for each caption, its own left out: int64 (c, m)."""
    rows = exact_search(examples.images, examples.texts, m + 1).rows  # (c, m + 1)
    own = rows == examples.owners[:, None]
    own[~own.any(1), -1] = True  # where its own is not among them the last one goes
    return rows[~own].reshape(len(rows), m)


def _begin_in_one_space(model: CrossEncoder, examples: MatchExamples) -> None:
    """Give the first layers the dual encoder's projections, and attention the likeness of what they give."""
    vectors = np.concatenate([examples.images - examples.images.mean(0), examples.texts - examples.texts.mean(0)])
    _, directions = np.linalg.eigh(vectors.T @ vectors)  # by ascending spread
    directions = directions[:, ::-1][:, : model.shape.width].T  # (width or d, d)
    with torch.no_grad():
        for layer, projection in ((model.image, examples.image_projection), (model.text, examples.text_projection)):
            weight = torch.from_numpy(np.ascontiguousarray(directions @ projection, np.float32))
            layer.weight.zero_()
            layer.weight[: len(weight)] = weight / weight.norm(dim=1).mean()
            layer.bias.zero_()
        for layer in model.layers:
            for stream in (layer.of_places, layer.of_words):
                stream.query.weight.copy_(torch.eye(model.shape.width))
                stream.key_value.weight[: model.shape.width] = torch.eye(model.shape.width)  # the keys' half
    model.image.requires_grad_(False)


@torch.no_grad()
def _projected(model: CrossEncoder, places: np.ndarray) -> torch.Tensor:
    """What the first layer makes of images' tokens, positions aside: float16 (n, p, width)."""
    blocks = [
        model.places(torch.from_dlpack(np.asarray(places[start : start + _IMAGES_AT_ONCE]))).half()
        for start in range(0, len(places), _IMAGES_AT_ONCE)
    ]
    return torch.cat(blocks)  # positions are zero at the start


def _scores(
    model: CrossEncoder, examples: MatchExamples, seen: torch.Tensor, captions: np.ndarray, compared: np.ndarray,
    token_dropout: float,
) -> torch.Tensor:
    """Of captions (b,) with the images compared (b, m) to each: (b, m)."""
    b, m = compared.shape
    longest = int(examples.there[captions].sum(1).max())
    read = torch.from_numpy(np.asarray(examples.words[captions, :longest], np.float32))
    there = torch.from_numpy(examples.there[captions, :longest])
    places = seen[torch.from_numpy(compared.reshape(-1))].float()  # (b * m, p, width)
    places = F.dropout(places, token_dropout) + model.position
    words = model.words(F.dropout(read, token_dropout)).repeat_interleave(m, 0)  # (b * m, w, width)
    return model(places, words, there.repeat_interleave(m, 0)).view(b, m)
