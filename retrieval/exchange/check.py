"""Are vectors from elsewhere what the named model makes of the images? A sample tells."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from retrieval.errors import ImageError
from retrieval.images import open_image
from retrieval.types import Encoder

SAMPLE = 8
ENOUGH = 0.98  # leaves room for other decoders, resizing and number formats, not for other weights
_KEPT = 10 * SAMPLE  # should some be unreadable


@dataclass(frozen=True)
class Comparison:
    """Mean cosine of the vectors with the encoder's own; None if no image could be compared."""

    images: int
    cosine: float | None

    @property
    def fits(self) -> bool:
        return self.cosine is None or self.cosine >= ENOUGH


class Sample:
    """An even choice from images that are offered one by one; the same ones give the same choice.

    Reservoir sampling: Vitter, "Random Sampling with a Reservoir", 1985, algorithm R.
    """

    def __init__(self, seed: int = 0):
        self._random = random.Random(seed)
        self._kept: list[tuple[str, np.ndarray]] = []
        self.offered = 0

    def offer(self, path: str, vector: np.ndarray) -> None:
        """vector (d,) float32, unit length"""
        self.offered += 1
        if len(self._kept) < _KEPT:
            self._kept.append((path, vector))
            return
        place = self._random.randrange(self.offered)
        if place < _KEPT:
            self._kept[place] = (path, vector)

    def compare(self, encoder: Encoder) -> Comparison:
        """Encode up to SAMPLE of the images and compare.

        Passes over what cannot be read, and images that a camera turned: others embed them lying.
        """
        images, vectors = [], []
        for path, vector in self._random.sample(self._kept, len(self._kept)):
            if len(images) == SAMPLE:
                break
            try:
                if not _is_turned(path):
                    images.append(open_image(Path(path))[0])
                    vectors.append(vector)
            except ImageError:
                continue
        if not images:
            return Comparison(0, None)
        own = encoder.encode_images(images)  # (m, d)
        return Comparison(len(images), float(np.einsum("md,md->m", own, np.stack(vectors)).mean()))


def _is_turned(path: str) -> bool:
    """Raises ImageError."""
    try:
        with Image.open(path) as image:
            return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception as error:  # damaged files surface from the decoders as almost anything
        raise ImageError(str(error)) from error
