"""Differentially private training of the projections: what one photo adds is bounded, and lost in noise.

DP-SGD (Abadi et al. 2016, arXiv 1607.00133). Each step takes every example with the same chance,
independently (Poisson sampling), shortens the gradient of each to length `clip`, and adds to their
sum Gaussian noise of standard deviation noise * clip. Opacus' accountant tells the epsilon of it.

Protected is one example: a photo with all of its captions and views. For any set of results,
P(with the example) <= exp(epsilon) * P(without it) + delta, and the other way round. Someone who is
in k photos is protected by about k * epsilon only.

In a batch of a contrastive loss every example speaks in the losses of all others, which clipping
does not bound. Here each pair competes with a public bank alone (see `public_bank`): class prototypes
and their names, and further public texts. The bank counts as constant in the losses of private
pairs; a public loss of its own moves it, and costs nothing.

Public after training are the projections, and what is reported on the way: that is the loss of the
public pairs, for that of private ones would cost privacy too. Not covered, to be judged apart: the
photos held out to measure recall on, whose score is published; the choice of settings, which
looked at results (each run spends its own epsilon, and they add up); the number of examples; and what
else is made of the same photos, such as the cached tower outputs, calibration references, or an index.
Noise is drawn from numpy's generator, seeded by the operating system: fit against readers of the
model, not against one who attacks random generators or the rounding of floats (Mironov 2012).
"""

from __future__ import annotations

import copy
from typing import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from retrieval.errors import TrainingError
from retrieval.train.projection_loop import (
    MAX_SCALE, Epoch, Examples, Projections, Settings, scheduled, unit_scale, info_nce,
)
from retrieval.train.privacy_budget import MEANS_NOISE, PrivacySettings, Spent, budget
from retrieval.train.public_bank import PublicBank, noisy_means


def train_privately(
    examples: Examples,
    settings: Settings,
    private: PrivacySettings,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    *,
    queries: torch.Tensor | None = None,
    start: Projections | None = None,
    device: str | torch.device = "cpu",
    secret: int | None = None,
) -> tuple[Projections, Spent]:
    """Train projections on private examples; returns them, on the CPU, and what it cost.

    examples  private but for their prototypes, which the bank is made of
    settings  batch_size is what a batch holds on average; the temperature stays as it is
    on_epoch  its loss is that of the public pairs
    queries   (k, text width), outputs for further public texts, such as `generic_queries`
    start     public projections to start from, not altered; None draws random ones
    secret    seeds what hides the examples: for tests. Who knows it, as all do a seed in
              training.json, can take the noise away; None has the operating system choose.

    Raises TrainingError, MissingPackageError.
    """
    photos, texts = examples.photos.to(device), examples.texts.to(device)
    views, n, _ = photos.shape
    rate, steps = _sampling(n, settings)
    spent = budget(n, rate, steps, private)
    if examples.prototypes is None:
        raise TrainingError("Private training needs class prototypes, for its pairs to compete with.")
    if not (torch.isfinite(photos).all() and torch.isfinite(texts).all()):
        raise TrainingError("A tower output is not finite. Private training takes finite ones only.")
    torch.manual_seed(settings.seed)
    chance = torch.Generator().manual_seed(settings.seed)
    hidden = np.random.default_rng(secret)
    model = _starting(start, photos.shape[-1], texts.shape[-1], settings).to(device)
    scale = model.logit_scale.detach().exp().clamp(max=MAX_SCALE)
    classes = examples.prototypes.to(device)
    queries = texts[:0] if queries is None else queries.to(device)
    means = noisy_means(examples, MEANS_NOISE * spent.noise, hidden)
    public = PublicBank(classes, queries, *(mean.to(device) for mean in means))
    weights = [model.image.weight, model.text.weight]
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    schedule = scheduled(optimizer, settings.learning_rate, steps)
    firsts = examples.counts.cumsum(0) - examples.counts  # (n,)
    for epoch in range(1, settings.epochs + 1):
        losses = []
        for _ in range(steps // settings.epochs):
            more_photos, more_texts = public.draw(chance)
            bank = model(
                _dropped(more_photos, settings.image_dropout), _dropped(more_texts, settings.text_dropout)
            )
            loss = info_nce(bank[0], bank[1][: len(bank[0])], scale)
            of_bank = torch.autograd.grad(loss, weights)

            batch = torch.from_numpy(np.flatnonzero(hidden.random(n) < rate))
            view = torch.randint(views, (len(batch),), generator=chance)
            caption = (torch.rand(len(batch), generator=chance) * examples.counts[batch]).long()
            clipped = clipped_sum(
                model,
                _dropped(photos[view, batch], settings.image_dropout),
                _dropped(texts[firsts[batch] + caption], settings.text_dropout),
                (bank[0].detach(), bank[1].detach()), scale, private.clip,
            )
            noisy = [with_noise(one, spent.noise * private.clip, hidden) / (rate * n) for one in clipped]
            shorter = settings.prototype_share * _shortening(_length(of_bank), private.clip)
            for weight, own, others in zip(weights, noisy, of_bank):
                weight.grad = own + shorter * others
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if not all(torch.isfinite(weight).all() for weight in weights):
            raise TrainingError(
                f"Training ran away in epoch {epoch}. Lower --learning-rate (now {settings.learning_rate})."
            )
        on_epoch(Epoch(epoch, float(np.mean(losses)), 1 / scale.item()))
    return model.eval().cpu(), spent


Bank = tuple[torch.Tensor, torch.Tensor]


def pair_losses(images: torch.Tensor, texts: torch.Tensor, bank: Bank, scale: torch.Tensor) -> torch.Tensor:
    """InfoNCE of each pair alone, (b,): its image among the bank's images, its text among the bank's texts.

    images, texts  (b, d) unit rows
    bank           (m, d) and (k, d) unit rows: images and texts
    """
    own = scale * (images * texts).sum(1, keepdim=True)  # (b, 1)
    among_texts = torch.cat([own, scale * images @ bank[1].T], 1)  # (b, 1 + k)
    among_images = torch.cat([own, scale * texts @ bank[0].T], 1)  # (b, 1 + m)
    return (among_texts.logsumexp(1) + among_images.logsumexp(1)) / 2 - own[:, 0]


def clipped_sum(
    model: Projections, photos: torch.Tensor, texts: torch.Tensor, bank: Bank, scale: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of each pair's loss, shortened to length `clip` and added up, of both weights.

    photos, texts  (b, width) inputs of the projections
    bank           as `pair_losses` takes it, without gradients

    With or without one pair the result differs by `clip` at most. No pair's gradient is written out:
    of a linear layer with outputs z = x W' it is the outer product of dloss/dz and x, so its length is
    |dloss/dz| |x| (Goodfellow 2015, arXiv 1510.01799).
    """
    with torch.no_grad():
        outputs = model.image(photos), model.text(texts)  # (b, d) each
    for output in outputs:
        output.requires_grad_()
    losses = pair_losses(*(F.normalize(output, dim=-1) for output in outputs), bank, scale)
    slopes = torch.autograd.grad(losses.sum(), outputs)
    lengths = sum(
        slope.square().sum(1) * inputs.square().sum(1) for slope, inputs in zip(slopes, (photos, texts))
    ).sqrt()  # (b,)
    kept = _shortening(lengths, clip)[:, None]
    return (kept * slopes[0]).T @ photos, (kept * slopes[1]).T @ texts


def with_noise(total: torch.Tensor, deviation: float, hidden: np.random.Generator) -> torch.Tensor:
    noise = torch.from_numpy(hidden.standard_normal(tuple(total.shape), np.float32))
    return total + deviation * noise.to(total.device)


def _sampling(n: int, settings: Settings) -> tuple[float, int]:
    """How likely a step takes an example, and how many steps there are."""
    batch_size = min(settings.batch_size, n)
    return batch_size / n, settings.epochs * max(1, n // batch_size)


def _starting(start: Projections | None, image_width: int, text_width: int, settings: Settings) -> Projections:
    if start is None:
        return Projections(image_width, text_width, settings.dim, settings.temperature)
    if (start.image.in_features, start.text.in_features) != (image_width, text_width):
        raise TrainingError(
            f"The projections to start from take {start.image.in_features} and {start.text.in_features} "
            f"numbers, these towers give {image_width} and {text_width}."
        )
    return copy.deepcopy(start).train()


def _dropped(outputs: torch.Tensor, share: float) -> torch.Tensor:
    return F.dropout(unit_scale(outputs), share)


def _length(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([part.norm() for part in parts]).norm()


def _shortening(lengths: torch.Tensor, clip: float) -> torch.Tensor:
    return (clip / lengths).clamp(max=1)  # of nothing, 1
