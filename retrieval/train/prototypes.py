"""What the image tower's own classifier knows, as extra training pairs.

A few thousand captioned photos name few things, and projections trained on them alone forget
the rest of what the towers know. The classifier on top of the image tower holds one direction
per ImageNet class, and each class has a name: pushing a photo's tower output along that
direction gives the output of a photo in which the class is plain to see, and the name is its
caption. Such pairs compete in the batch beside the real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import torch
from timm.data import ImageNetInfo

from retrieval.encoders.towers import load_classifier

TEMPLATES = (
    "{}", "a photo of a {}", "a close-up of a {}", "a picture of one {}", "there is a {} in the picture",
)
# How far to push a unit-length output: at the lower end the classifier is sure of the class
# (0.99 and more for half of all photos at 0.27), at the upper end little else is left.
STRENGTH = (0.4, 1.1)


@dataclass(frozen=True)
class Prototypes:
    """directions: (classes, image width); texts: (classes, variants, text width) float16."""

    directions: torch.Tensor
    texts: torch.Tensor

    def draw(
        self, photos: torch.Tensor, chance: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn photos' tower outputs (b, image width) into pairs of b different classes.

        Returns outputs (b, image width) and texts (b, text width). b is at most the number of
        classes.
        """
        b = len(photos)
        chosen = torch.randperm(len(self.directions), generator=chance)[:b]
        variant = torch.randint(self.texts.shape[1], (b,), generator=chance)
        faded = torch.rand(b, 1, generator=chance).to(photos.device) * photos.float()
        low, high = STRENGTH
        strength = low + (high - low) * torch.rand(b, 1, generator=chance).to(photos.device)
        # outputs are averages of rectified values, so never negative
        outputs = torch.relu(faded + strength * self.directions[chosen])
        return outputs, self.texts[chosen, variant].float()

    def to(self, device: str | torch.device) -> Prototypes:
        return Prototypes(self.directions.to(device), self.texts.to(device))


def class_texts() -> list[list[str]]:
    """Variants of each class's caption, in the classifier's order.

    Names are ImageNet's, as timm lists them: WordNet lemmas, the first one the most common.
    """
    info = ImageNetInfo()
    names = [info.index_to_description(index) for index in range(info.num_classes())]
    return [
        [template.format(name.split(",")[0].strip()) for template in TEMPLATES] + [name]
        for name in names
    ]


def class_directions() -> torch.Tensor:
    """The classifier's weights: (classes, image width) float32. Raises WeightsError."""
    return load_classifier()[0]


def prototypes(texts: torch.Tensor, variants: Sequence[Sequence[str]]) -> Prototypes:
    """Join the classifier with the embedded texts of `class_texts`, (classes * variants, width)."""
    return Prototypes(
        class_directions(), texts.reshape(len(variants), len(variants[0]), texts.shape[-1])
    )
