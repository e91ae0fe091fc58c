"""Training a cross-encoder: which of the images that the dual encoder confuses does a caption belong to?

For a caption its image competes with hard negatives, images that the dual encoder ranks near the top
for it; the loss is the cross-entropy of the right one among them. The towers stay as they are, so their
tokens are computed once.
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

_LEAST_IMAGES = 8


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

    places  (n, p, image width) float16, images' tokens; an array or a memory map
    words   (c, w, text width) float16, captions' tokens; there: (c, w) bool, which are words
    owners  (c,) int64, each caption's image
    images  (n, d), texts (c, d) float32 unit rows
    """

    places: np.ndarray
    words: np.ndarray
    there: np.ndarray
    owners: np.ndarray
    images: np.ndarray
    texts: np.ndarray


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
    if n < _LEAST_IMAGES:
        raise TrainingError(f"{n} captioned images are too few to train a cross-encoder on; {_LEAST_IMAGES} are the least.")
    torch.manual_seed(settings.seed)
    chance = np.random.default_rng(settings.seed)
    model = CrossEncoder(
        Shape(image_width, examples.words.shape[-1], places, width=width, layers=layers), settings.dropout
    ).train()
    hard = hard_negatives(examples, min(settings.hardest, n - 1))
    negatives = min(settings.negatives, hard.shape[1])
    steps = settings.epochs * max(1, len(examples.owners) // settings.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
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
        logits = _scores(model, examples, batch, compared, settings.token_dropout)
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


def _scores(
    model: CrossEncoder, examples: MatchExamples, captions: np.ndarray, compared: np.ndarray, token_dropout: float
) -> torch.Tensor:
    """Of captions (b,) with the images compared (b, m) to each: (b, m)."""
    b, m = compared.shape
    distinct, at = np.unique(compared, return_inverse=True)
    seen = torch.from_numpy(np.asarray(examples.places[distinct], np.float32))
    longest = int(examples.there[captions].sum(1).max())
    read = torch.from_numpy(np.asarray(examples.words[captions, :longest], np.float32))
    there = torch.from_numpy(examples.there[captions, :longest])
    places = model.places(F.dropout(seen, token_dropout))[torch.from_numpy(at.reshape(-1))]  # (b * m, p, width)
    words = model.words(F.dropout(read, token_dropout)).repeat_interleave(m, 0)  # (b * m, w, width)
    return model(places, words, there.repeat_interleave(m, 0)).view(b, m)
