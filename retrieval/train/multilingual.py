"""The linear map of `builtin-multilingual`, learned from English alone.

Its sentence encoder puts translations close together, so a map that takes English sentences to
where the built-in encoder puts them does the same for the other languages. Ridge regression has
its minimum in closed form, hence no epochs and no seed:

    W = argmin sum |W s - t|^2 + ridge |W|^2 = T' S (S' S + ridge I)^-1
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from safetensors.numpy import save
from timm.data import ImageNetInfo

from retrieval.corpus.captions import read_captions
from retrieval.encoders.sentence_tower import PROJECTION
from retrieval.files import write_atomically

RIDGE = 1.0
_AT_ONCE = 4096


def write_multilingual(
    captions: Path, split: str, output: Path,
    sentences: Callable[[Sequence[str]], np.ndarray], builtin: Callable[[Sequence[str]], np.ndarray],
) -> np.ndarray:
    """Learn the map from the captions of one split and from names of things, and write it.

    sentences, builtin  texts to unit rows (n, width) and (n, d)

    Returns it, float32 (d, width). Raises CaptionsError, EncoderError, OSError.
    """
    texts = [caption.text for caption in read_captions(captions, split=split).captions] + names_of_things()
    projection = linear_map(
        np.concatenate([sentences(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]),
        np.concatenate([builtin(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]),
    )
    write_atomically(output, save({PROJECTION: projection}))
    return projection


def linear_map(sources: np.ndarray, targets: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """W of the formula above: float32 (d, width), of sources (n, width) and targets (n, d)."""
    sources, targets = sources.astype(np.float64), targets.astype(np.float64)
    square = sources.T @ sources + ridge * np.eye(sources.shape[1])
    return np.linalg.solve(square, sources.T @ targets).T.astype(np.float32, order="C")


def names_of_things() -> list[str]:
    """What ImageNet's 21,841 classes are called: WordNet lemmas, as timm lists them."""
    info = ImageNetInfo("imagenet22k")
    described = (info.index_to_description(index) for index in range(info.num_classes()))
    return sorted({name.strip() for one in described for name in one.split(",")} - {""})
