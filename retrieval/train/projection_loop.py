"""The training loop: two projections, symmetric InfoNCE, learned temperature.

Loss as in CLIP (Radford et al. 2021, section 2.3): cross-entropy of each photo against the
batch's captions and of each caption against the batch's photos, averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from retrieval.errors import TrainingError
from retrieval.train.prototypes import Prototypes

MAX_SCALE = 100.0  # CLIP's cap on the logit scale


@dataclass(frozen=True)
class Settings:
    """What decides the result, besides the data. Defaults chosen on photos outside the test split."""

    dim: int = 512
    epochs: int = 120
    batch_size: int = 1024
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    image_dropout: float = 0.5  # of tower outputs
    text_dropout: float = 0.1
    temperature: float = 0.05  # at the start
    prototype_share: float = 0.25  # class prototypes in a batch, per real pair; 0 for none
    seed: int = 0


@dataclass(frozen=True)
class Examples:
    """Tower outputs to train on.

    photos    (views, n, image width) float16
    texts     (captions, text width) float16, all captions of photo 0, then of photo 1, ...
    counts    (n,) captions per photo, each >= 1
    """

    photos: torch.Tensor
    texts: torch.Tensor
    counts: torch.Tensor
    prototypes: Prototypes | None = None


class Projections(nn.Module):
    """One bias-free linear map per modality, into unit vectors of a shared space."""

    def __init__(self, image_width: int, text_width: int, dim: int, temperature: float):
        super().__init__()
        self.image = nn.Linear(image_width, dim, bias=False)
        self.text = nn.Linear(text_width, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def forward(self, photos: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return F.normalize(self.image(photos), dim=-1), F.normalize(self.text(texts), dim=-1)


@dataclass(frozen=True)
class Epoch:
    number: int  # from 1
    loss: float
    temperature: float


def info_nce(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Symmetric InfoNCE of unit rows (b, d) that belong together pairwise."""
    logits = scale * images @ texts.T  # (b, b)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(
    examples: Examples,
    settings: Settings,
    *,
    device: str | torch.device = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Projections:
    """Train and return the projections, on the CPU. The same seed gives the same result.

    Raises TrainingError if the loss is no longer a number.
    """
    torch.manual_seed(settings.seed)
    chance = torch.Generator().manual_seed(settings.seed)
    views, n, image_width = examples.photos.shape
    photos, texts = examples.photos.to(device), examples.texts.to(device)
    firsts = examples.counts.cumsum(0) - examples.counts  # (n,) first caption of each photo
    model = Projections(image_width, texts.shape[1], settings.dim, settings.temperature).to(device)
    batch_size = min(settings.batch_size, n)
    classes = examples.prototypes.to(device) if examples.prototypes else None
    extra = int(batch_size * settings.prototype_share)
    if classes:
        extra = min(extra, len(classes.directions))
    steps = settings.epochs * (n // batch_size)
    optimizer = torch.optim.AdamW(
        [
            {"params": [model.image.weight, model.text.weight]},
            {"params": [model.logit_scale], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay,
    )
    schedule = scheduled(optimizer, settings.learning_rate, steps)
    model.train()
    for epoch in range(1, settings.epochs + 1):
        losses = []
        order = torch.randperm(n, generator=chance)
        for step, batch in enumerate(order.split(batch_size), 1):
            if len(batch) < batch_size:
                break  # a smaller batch has fewer negatives, hence another loss
            view = torch.randint(views, (batch_size,), generator=chance)
            caption = (torch.rand(batch_size, generator=chance) * examples.counts[batch]).long()
            x, y = photos[view, batch], texts[firsts[batch] + caption]
            if classes and extra:
                more_x, more_y = classes.draw(x[:extra], chance)
                x, y = torch.cat([x.float(), more_x]), torch.cat([y.float(), more_y])
            images, captions = model(
                F.dropout(unit_scale(x), settings.image_dropout),  # (b, image width)
                F.dropout(unit_scale(y), settings.text_dropout),  # (b, text width)
            )
            loss = info_nce(images, captions, model.logit_scale.exp().clamp(max=MAX_SCALE))
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"The loss is {loss.item()} in epoch {epoch}, step {step}. Lower --learning-rate "
                    f"(now {settings.learning_rate})."
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if not torch.isfinite(model.logit_scale.exp()):
                raise TrainingError(
                    f"The temperature ran away in epoch {epoch}, step {step}. Lower --learning-rate "
                    f"(now {settings.learning_rate})."
                )
        on_epoch(Epoch(epoch, float(np.mean(losses)), math.exp(-model.logit_scale.item())))
    return model.eval().cpu()


def scheduled(
    optimizer: torch.optim.Optimizer, highest: float, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """One cycle up to the highest learning rate and down."""
    if steps <= 20:  # too few to warm up in
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps, pct_start=0.1)


def unit_scale(outputs: torch.Tensor) -> torch.Tensor:
    """Tower outputs (b, width) with values of unit size on average."""
    # unit length first, then values of unit size on average, which layers expect
    return F.normalize(outputs.float(), dim=-1) * outputs.shape[-1] ** 0.5
