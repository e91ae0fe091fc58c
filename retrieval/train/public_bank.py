"""Public pairs and texts that private pairs compete with, made alike to them in the mean.

Prototypes are no photos, and class names no captions: a pair that only has to stand out from them
does so by being a photo with a caption, and learns nothing. So the bank is moved to where the
private examples are, which takes two vectors: the mean photo and the mean caption, told once under
noise. With unit rows their length also says how far rows lie from the mean, so the bank's spread is
made to fit, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from retrieval.train.projection_loop import Examples
from retrieval.train.prototypes import Prototypes


@dataclass(frozen=True)
class PublicBank:
    """queries: (k, text width), further texts; means: photo (image width,), caption (text width,)."""

    prototypes: Prototypes
    queries: torch.Tensor
    mean_photo: torch.Tensor
    mean_text: torch.Tensor

    def draw(self, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Photos (m, image width) and texts (m + k, text width); the first m texts name the photos."""
        directions = self.prototypes.directions
        photos, names = self.prototypes.draw(torch.zeros_like(directions), chance)
        texts = torch.cat([names.float(), self.queries.float()])
        return moved(photos, self.mean_photo), moved(texts, self.mean_text)


def moved(rows: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Rows brought to unit length, moved to `mean`, and spread about it as unit rows with that mean are.

    The mean squared distance of unit rows from their mean m is 1 - |m|^2.
    """
    rows = F.normalize(rows.float(), dim=-1)
    centre = rows.mean(0)
    spread = ((1 - mean.square().sum()) / (1 - centre.square().sum()).clamp(min=1e-6)).clamp(min=0).sqrt()
    return mean + spread * (rows - centre)


def noisy_means(examples: Examples, noise: float, hidden: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean photo and the mean caption of unit rows, under Gaussian noise.

    noise  its standard deviation in units of what one example adds to the sum at most: a unit photo
           and a mean of unit captions, so a vector of length sqrt(2) or less
    """
    photos = F.normalize(examples.photos[0].float(), dim=-1)
    firsts = examples.counts.cumsum(0) - examples.counts
    owners = torch.repeat_interleave(torch.arange(len(firsts)), examples.counts)
    texts = F.normalize(examples.texts.float().cpu(), dim=-1) / examples.counts[owners, None]
    deviation = noise * 2**0.5 / len(firsts)
    return tuple(
        _told(rows.sum(0).cpu() / len(firsts), deviation, hidden) for rows in (photos, texts)
    )


def _told(mean: torch.Tensor, deviation: float, hidden: np.random.Generator) -> torch.Tensor:
    noisy = mean + deviation * torch.from_numpy(hidden.standard_normal(len(mean), np.float32))
    # drawn back by what the noise added to its length (James and Stein 1961)
    return noisy * (1 - len(mean) * deviation**2 / noisy.square().sum()).clamp(min=0)
