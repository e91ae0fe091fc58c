"""Losses of a batch: how far is each image from its own texts, beside the batch's other texts?

Images and texts are unit rows of one space. An image may have several texts, a text has one image. Where
every image has a single text, InfoNCE and the sigmoid loss are open_clip's ClipLoss and SigLipLoss.
"""

from __future__ import annotations

import difflib
import math
from functools import partial
from typing import Callable

import torch
from torch.nn import functional as F

from retrieval.errors import TrainingError

# images (n, d), texts (m, d), owners (m,) int64, scale, bias or None -> scalar. Text j belongs to image
# owners[j]; each image has a text. The scale is the factor itself, not its logarithm.
Loss = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, "torch.Tensor | float", "torch.Tensor | float | None"], torch.Tensor
]

NAMES = ("infonce", "siglip", "vse++")


def named(name: str, *, label_smoothing: float = 0.0, margin: float = 0.2) -> Loss:
    """The loss of that name. Raises TrainingError if there is none, or for options that it cannot have."""
    _check(name)
    if not 0 <= label_smoothing < 1:
        raise TrainingError(f"Label smoothing is {label_smoothing}; it must be at least 0 and below 1.")
    if label_smoothing and name != "infonce":
        raise TrainingError(f"The loss {name} has no labels to smooth. Leave label smoothing out, or take infonce.")
    if margin <= 0:
        raise TrainingError(f"The margin is {margin}; it must be above 0.")
    return {
        "infonce": partial(infonce, label_smoothing=label_smoothing),
        "siglip": siglip,
        "vse++": partial(hardest_hinge, margin=margin),
    }[name]


def initial_scale_and_bias(name: str) -> tuple[float, float | None]:
    """Where a loss's scale and bias start: as in CLIP, and in SigLIP. Raises TrainingError for an unknown name."""
    _check(name)
    return (10.0, -10.0) if name == "siglip" else (1 / 0.07, None)


def infonce(
    images: torch.Tensor, texts: torch.Tensor, owners: torch.Tensor, scale: torch.Tensor | float,
    bias: torch.Tensor | float | None = None, *, label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, section 2.3): the mean of both directions' cross-entropies.

    An image's target is uniform over its texts, as in supervised contrastive learning (Khosla et al. 2020),
    and label smoothing spreads a share of every target over the whole batch. A bias changes nothing.
    """
    logits = scale * _scores(images, texts)  # (n, m)
    own = _own(owners, len(images)).to(logits.dtype)
    target = own / own.sum(1, keepdim=True)
    of_images = F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    of_texts = F.cross_entropy(logits.T, owners, label_smoothing=label_smoothing)
    return (of_images + of_texts) / 2


def siglip(
    images: torch.Tensor, texts: torch.Tensor, owners: torch.Tensor, scale: torch.Tensor | float,
    bias: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """Sigmoid loss (Zhai et al. 2023): each image and text on their own, do they belong together?

    The sum over all images, averaged over texts, so that more texts per image do not weigh more.
    """
    logits = scale * _scores(images, texts)  # (n, m)
    if bias is not None:
        logits = logits + bias
    sign = 2.0 * _own(owners, len(images)) - 1
    return -F.logsigmoid(sign * logits).sum() / len(texts)


def hardest_hinge(
    images: torch.Tensor, texts: torch.Tensor, owners: torch.Tensor, scale: torch.Tensor | float = 1.0,
    bias: torch.Tensor | float | None = None, *, margin: float = 0.2,
) -> torch.Tensor:
    """VSE++'s max of hinges (Faghri et al. 2018, equation 6): each pair against its hardest negatives alone.

    The mean over pairs, where the paper has the sum. None of an image's texts is a negative of another of
    them. Scores are cosines: neither scale nor bias counts.
    """
    scores = _scores(images, texts)  # (n, m)
    own = _own(owners, len(images))
    positives = scores.gather(0, owners[None])[0]  # (m,) each text with its image
    negatives = scores.masked_fill(own, -math.inf)
    hardest_texts, hardest_images = negatives.amax(1)[owners], negatives.amax(0)  # (m,), (m,)
    return sum(F.relu(margin + hardest - positives).mean() for hardest in (hardest_texts, hardest_images))


def distillation(
    images: torch.Tensor, texts: torch.Tensor, teacher_images: torch.Tensor, teacher_texts: torch.Tensor,
    scale: torch.Tensor | float, teacher_scale: torch.Tensor | float,
) -> torch.Tensor:
    """KL divergence of the student's in-batch distributions from the teacher's, the mean of both directions.

    images (n, d), texts (m, d); the teacher's rows may be of another width. The gradient is that of
    open_clip's DistillClipLoss, which is larger by the teacher's entropy.
    """
    student = scale * _scores(images, texts)  # (n, m)
    with torch.no_grad():
        teacher = teacher_scale * _scores(teacher_images, teacher_texts)
    return (_divergence(student, teacher) + _divergence(student.T, teacher.T)) / 2


def _divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), log_target=True, reduction="batchmean")


def _scores(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Cosines (n, m), in float32 at least: bfloat16 would round logits near 100 to the next half."""
    exact = torch.promote_types(torch.promote_types(images.dtype, texts.dtype), torch.float32)
    with torch.autocast(images.device.type, enabled=False):
        return images.to(exact) @ texts.to(exact).T


def _own(owners: torch.Tensor, n: int) -> torch.Tensor:
    """Which texts belong to which image: (n, m) bool."""
    return torch.arange(n, device=owners.device)[:, None] == owners


def _check(name: str) -> None:
    if name not in NAMES:
        near = difflib.get_close_matches(name.lower(), NAMES, cutoff=0.5) or NAMES
        raise TrainingError(f"There is no loss {name!r}. Choose {' or '.join(near)}.")
