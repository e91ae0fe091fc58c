"""Images as the bytes that an image tower takes. Needs no torch, so that processes which decode start fast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

MAX_ASPECT = 20  # longer strips are cut to their middle before resizing

# Pictures larger than this many times the model's input are first shrunk by whole factors, each
# new pixel the mean of a block. Below it results equal the exact transform's but for rounding.
_REDUCING_GAP = 3.0


@dataclass(frozen=True)
class Resizing:
    """One resize to width x height; of the middle square alone if `square`, else squashed. Can be pickled."""

    width: int
    height: int
    filter: Image.Resampling
    square: bool

    def __call__(self, image: Image.Image) -> np.ndarray:
        """uint8 (height, width, 3)"""
        box = _middle_square(image.size, self.height) if self.square else None
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        return np.array(rgb.resize((self.width, self.height), self.filter, box, _REDUCING_GAP))

    def of_middle(self, image: Image.Image) -> np.ndarray:
        """The same of an image of any shape, see `middle`."""
        return self(middle(image))


def middle(image: Image.Image) -> Image.Image:
    """Resizing the short side of a 1 x 60000 strip to 224 pixels would take gigabytes."""
    width, height = image.size
    longest = MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    box = (left, top, min(width, left + longest), min(height, top + longest))
    # Not crop: it measures the strip by Pillow's own limit, where `open_image` has the user's.
    return image.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.NEAREST, box)


def _middle_square(size: tuple[int, int], side: int) -> tuple[float, float, float, float]:
    """What of an image is left when its shorter side becomes `side` and the middle is cut out.

    Rounded as torchvision's Resize and CenterCrop round.
    """
    short = min(size)
    box = []
    for length in size:
        resized = int(side * length / short)
        start = round((resized - side) / 2)
        box.append((start * length / resized, (start + side) * length / resized))
    (left, right), (top, bottom) = box
    return left, top, min(right, size[0]), min(bottom, size[1])
