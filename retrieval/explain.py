"""Why an image has the score it has: which of its regions, and which words, speak for the query."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Sequence

import numpy as np
from PIL import Image

from retrieval.errors import QueryError
from retrieval.query import embed, text_query
from retrieval.query_vectors import QueryVectors
from retrieval.rank.templates import in_sentences
from retrieval.types import Encoder

METHODS = ("auto", "gradient", "occlusion")
_WINDOW, _STEPS = 4, 8  # a covering window is 1/4 of each side, moved by 1/8
_OCCLUDED_SIDE = 448  # pixels; covering a picture larger than towers take only costs time
# From cold to hot; told apart by lightness too, so without colour vision, or printed in grey.
_COLOURS = np.array([(20, 20, 60), (120, 28, 109), (237, 105, 37), (252, 255, 164)], np.float32)


@dataclass(frozen=True, eq=False)
class Explanation:
    """One image and one text.

    score   their cosine
    heat    (h, w) float32 in [0, 1], a value for each pixel of the image: 1 where most speaks for the
            text, 0 where nothing does or it speaks against; all 0 if that is so everywhere
    words   (word, drop) in the text's order: how much lower the score is without the word, negative if
            it is higher; nothing for a single word
    method  "gradient" or "occlusion"
    """

    score: float
    heat: np.ndarray
    words: list[tuple[str, float]]
    method: str

    def to_json(self) -> dict[str, Any]:
        """Without the heat, but with the centre of the hottest region, in shares of width and height."""
        height, width = self.heat.shape
        row, column = np.unravel_index(self.heat.argmax(), self.heat.shape)
        hottest = [round((column + 0.5) / width, 3), round((row + 0.5) / height, 3)]
        return {
            "score": round(self.score, 6), "method": self.method,
            "hottest": hottest if self.heat.any() else None,
            "words": [{"word": word, "drop": round(drop, 6)} for word, drop in self.words],
        }


def explain(encoder: Encoder, image: Image.Image, text: str, *, method: str = "auto") -> Explanation:
    """Say which regions of `image` and which words of `text` their score comes from.

    image   upright RGB, as from `open_image`
    method  "gradient": what each position of the tower's features contributes, see
            `retrieval.encoders.relevance`; in one pass, as fine as the tower's grid is.
            "occlusion": how much the score drops as a window of the image's mean colour covers a
            region (Zeiler & Fergus 2014); works with any encoder, and takes 49 more images.
            "auto": gradient where the encoder can, else occlusion

    Raises QueryError for a blank text or an unknown method, EncoderError.
    """
    if not text.strip():
        raise QueryError("The query is empty. Say what the image is to be explained by.")
    if method not in METHODS:
        raise QueryError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    can = hasattr(encoder, "relevance")
    if method == "gradient" and not can:
        raise QueryError(f"{encoder.name} gives no gradients. Explain by --method occlusion.")
    towards = _encoded(encoder, [text])[0]  # (d,)
    own = encoder.encode_images([image])[0]  # (d,)
    if method == "occlusion" or not can:
        method, heat = "occlusion", _occluded(encoder, image, towards)
    else:
        method, heat = "gradient", _laid_over(image.size, *encoder.relevance(image, towards))
    return Explanation(float(own @ towards), _scaled(heat), leave_one_out(encoder, own, text), method)


def leave_one_out(encoder: Encoder, image: np.ndarray, text: str) -> list[tuple[str, float]]:
    """(word, drop of the score without it) in order; nothing for a single word.

    image  its vector (d,)
    """
    words = text.split()
    if len(words) < 2:
        return []
    texts = [text, *(" ".join(words[:index] + words[index + 1 :]) for index in range(len(words)))]
    scores = _encoded(encoder, texts) @ image  # (1 + words,)
    return list(zip(words, (scores[0] - scores[1:]).tolist()))


def _encoded(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Vectors (t, d) that a search by these words would have, short ones in sentences included."""
    queries = in_sentences([text_query(text) for text in texts], encoder.name)
    return QueryVectors(encoder.dim, lambda new: embed(new, encoder), lambda ids: {}, None).of(queries)


def drawn(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """The image in grey under the heat in colours.

    heat  (h, w) in [0, 1], of the image's size
    """
    grey = np.asarray(image.convert("L"), np.float32)[..., None]  # (h, w, 1)
    stops = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(heat, stops, channel) for channel in _COLOURS.T], -1)  # (h, w, 3)
    strength = (0.25 + 0.5 * heat)[..., None]  # the picture shows through everywhere
    mixed = (1 - strength) * grey + strength * colours
    return Image.fromarray(mixed.round().astype(np.uint8))


def half_blocks(image: Image.Image, columns: int) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Rows of (upper, lower) RGB colours: a picture for terminals, whose characters are twice as high as wide."""
    rows = max(1, round(columns * image.height / image.width / 2))
    pixels = np.asarray(image.convert("RGB").resize((columns, 2 * rows), Image.Resampling.BOX))
    return [
        [(tuple(upper), tuple(lower)) for upper, lower in zip(*pair)]
        for pair in pixels.reshape(rows, 2, columns, 3).tolist()
    ]


def _scaled(heat: np.ndarray) -> np.ndarray:
    positive = np.clip(heat, 0, None)
    highest = positive.max()
    return (positive / highest if highest > 0 else positive).astype(np.float32)


def _laid_over(size: tuple[int, int], positions: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Contributions (rows, columns) of a part of the image, on all of it: (h, w), 0 where it was not seen."""
    width, height = size
    left, top, right, bottom = box
    shown = [max(0, floor(left)), max(0, floor(top)), min(width, ceil(right)), min(height, ceil(bottom))]
    rows, columns = positions.shape
    across, down = columns / (right - left), rows / (bottom - top)  # positions per pixel
    within = (max(0.0, (shown[0] - left) * across), max(0.0, (shown[1] - top) * down),
              min(columns, (shown[2] - left) * across), min(rows, (shown[3] - top) * down))
    part = Image.fromarray(positions.astype(np.float32)).resize(
        (shown[2] - shown[0], shown[3] - shown[1]), Image.Resampling.BILINEAR, within
    )
    heat = np.zeros((height, width), np.float32)
    heat[shown[1] : shown[3], shown[0] : shown[2]] = np.asarray(part)
    return heat


def _occluded(encoder: Encoder, image: Image.Image, towards: np.ndarray) -> np.ndarray:
    """The mean drop of the score over the windows that cover each pixel: (h, w)."""
    small = image.copy()
    small.thumbnail((_OCCLUDED_SIDE, _OCCLUDED_SIDE))
    mean = tuple(np.asarray(small).reshape(-1, 3).mean(axis=0).round().astype(int).tolist())
    places = [(row, column) for row in range(_STEPS - 1) for column in range(_STEPS - 1)]
    covered = [small]
    for row, column in places:
        copy = small.copy()
        copy.paste(mean, _window(small.size, row, column))
        covered.append(copy)
    scores = encoder.encode_images(covered) @ towards
    # On a grid of steps, of which each window covers two by two.
    drops, times = np.zeros((2, _STEPS, _STEPS), np.float32)
    for (row, column), score in zip(places, scores[1:]):
        cells = np.s_[row : row + _STEPS // _WINDOW, column : column + _STEPS // _WINDOW]
        drops[cells] += scores[0] - score
        times[cells] += 1
    return _laid_over(image.size, drops / times, (0, 0, *image.size))


def _window(size: tuple[int, int], row: int, column: int) -> tuple[int, int, int, int]:
    width, height = size
    span = _STEPS // _WINDOW
    return (width * column // _STEPS, height * row // _STEPS,
            -(-width * (column + span) // _STEPS), -(-height * (row + span) // _STEPS))
