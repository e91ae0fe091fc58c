"""Augmentation: each epoch shows each photo, and says each caption, a little otherwise."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from PIL import Image, ImageEnhance, ImageOps, ImageStat

from retrieval.errors import TrainingError

_STRETCH = 4 / 3  # of a crop, in either direction
_GREY = (124, 116, 104)  # the mean of ImageNet's photos, where an operation uncovers something
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as Pillow's
# What a mirror makes a lie of, in the languages that caption data sets are in.
_SIDES = re.compile(
    r"\b(left|right)(most|side|wards?|hand(ed)?)?\b|\b(counter|anti)?clockwise\b"
    r"|\b(linke?[nrs]?|rechte?[nrs]?|rechts)\b|\b(gauche|droite)\b|\b(izquierd|derech)[oa]s?\b"
    r"|\b(sinistr[ao]|destr[ao])\b|\b(лев|прав)(ый|ая|ое|ой|ого|ом|ую)\b|\b(слева|справа|влево|вправо)\b"
    r"|[左右]|왼쪽|오른쪽",
    re.IGNORECASE,
)


def allows_flip(texts: Iterable[str]) -> bool:
    """Whether the texts stay true of the mirrored photo: none speaks of left and right."""
    return not any(_SIDES.search(text) for text in texts)


@dataclass(frozen=True)
class Augmentation:
    """How much is left to chance.

    crop          smallest share of the photo's area that a crop keeps; 1 keeps photos whole
    flip          mirror every other photo whose texts allow it
    colour        brightness, contrast and saturation are multiplied by 1 - colour to 1 + colour
    randaugment   operations of RandAugment on each photo
    word_dropout  share of a text's words that are left out

    Raises TrainingError for what cannot be.
    """

    crop: float = 0.5
    flip: bool = True
    colour: float = 0.2
    randaugment: int = 0
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, fits, rule in (
            ("crop", 0 < self.crop <= 1, "above 0, and at most 1"),
            ("colour", 0 <= self.colour < 1, "at least 0, and below 1"),
            ("randaugment", self.randaugment >= 0, "0 or more"),
            ("word_dropout", 0 <= self.word_dropout < 1, "at least 0, and below 1"),
        ):
            if not fits:
                raise TrainingError(f"An augmentation's {name} is {getattr(self, name)}; it has to be {rule}.")

    def image(self, image: Image.Image, text_allows_flip: bool, chance: random.Random) -> Image.Image:
        """The RGB image as it is this time; of another size where it was cropped."""
        if self.crop < 1:
            image = _cropped(image, self.crop, chance)
        if self.flip and chance.random() < 0.5 and text_allows_flip:
            image = ImageOps.mirror(image)
        if self.colour:
            image = _recoloured(image, *(chance.uniform(1 - self.colour, 1 + self.colour) for _ in range(3)))
        for _ in range(self.randaugment):
            image = chance.choice(_OPERATIONS)(image, chance)
        return image

    def text(self, text: str, chance: random.Random) -> str:
        """The text as it is this time: at least one of its words."""
        if not self.word_dropout:
            return text
        words = text.split()
        kept = [word for word in words if chance.random() >= self.word_dropout]
        return " ".join(kept or chance.sample(words, min(1, len(words))))


NONE = Augmentation(crop=1.0, flip=False, colour=0.0, randaugment=0, word_dropout=0.0)


def _cropped(image: Image.Image, least: float, chance: random.Random) -> Image.Image:
    """A part with a share of the area and sides of 3 to 4 at the most, as in Szegedy et al. 2015, section 6.

    Of an image that is too long for that, as much as has such sides. Nothing is drawn in vain, so shares
    stay uniform where those of trying again and again do not.
    """
    area = image.width * image.height * chance.uniform(least, 1)
    narrowest, widest = max(1 / _STRETCH, area / image.height**2), min(_STRETCH, image.width**2 / area)
    if narrowest <= widest:
        stretch = narrowest * (widest / narrowest) ** chance.random()
        width, height = round(math.sqrt(area * stretch)), round(math.sqrt(area / stretch))
    else:
        width, height = round(image.height * _STRETCH), round(image.width * _STRETCH)
    width, height = max(1, min(width, image.width)), max(1, min(height, image.height))
    left, top = chance.randint(0, image.width - width), chance.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


def _recoloured(image: Image.Image, brightness: float, contrast: float, saturation: float) -> Image.Image:
    """One after the other, as Pillow's ImageEnhance has them, and in one pass: all three are linear.

    With L(x) a pixel's grey and m the image's mean grey, contrast is c x + (1 - c) m, and saturation
    s x + (1 - s) L(x).
    """
    mean = brightness * ImageStat.Stat(image.convert("L")).mean[0]
    own, grey = brightness * contrast * saturation, brightness * contrast * (1 - saturation)
    rows = []
    for channel in range(3):
        rows += [grey * luma + own * (place == channel) for place, luma in enumerate(_LUMA)]
        rows.append((1 - contrast) * mean)
    return image.convert("RGB", tuple(rows))


def _moved(image: Image.Image, across: tuple[float, float, float], down: tuple[float, float, float]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, (*across, *down), Image.Resampling.BILINEAR, fillcolor=_GREY
    )


def _sheared_across(image: Image.Image, chance: random.Random) -> Image.Image:
    slope = chance.uniform(-0.3, 0.3)
    return _moved(image, (1, slope, -slope * image.height / 2), (0, 1, 0))


def _sheared_down(image: Image.Image, chance: random.Random) -> Image.Image:
    slope = chance.uniform(-0.3, 0.3)
    return _moved(image, (1, 0, 0), (slope, 1, -slope * image.width / 2))


def _shifted(image: Image.Image, chance: random.Random) -> Image.Image:
    x, y = image.width * chance.uniform(-0.2, 0.2), image.height * chance.uniform(-0.2, 0.2)
    return _moved(image, (1, 0, x), (0, 1, y))


# RandAugment (Cubuk et al. 2020) but for its two operations that turn colours around: captions name them.
_OPERATIONS: tuple[Callable[[Image.Image, random.Random], Image.Image], ...] = (
    lambda image, chance: ImageOps.autocontrast(image),
    lambda image, chance: ImageOps.equalize(image),
    lambda image, chance: ImageOps.posterize(image, chance.randint(4, 7)),
    lambda image, chance: ImageEnhance.Sharpness(image).enhance(chance.uniform(0.1, 1.9)),
    lambda image, chance: _recoloured(image, *(chance.uniform(0.5, 1.5) for _ in range(3))),
    lambda image, chance: image.rotate(chance.uniform(-30, 30), Image.Resampling.BILINEAR, fillcolor=_GREY),
    _sheared_across, _sheared_down, _shifted,
)
