"""The linear map of `builtin-multilingual`, learned from English alone.

Its sentence encoder puts translations close together, so a map that takes English texts to where
the built-in encoder puts them does the same for other languages. Weighted ridge regression has its
minimum in closed form, hence no epochs and no seed:

    W = argmin sum a |W s - t|^2 + ridge |W|^2 = T' A S (S' A S + ridge I)^-1
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

RIDGE = 0.5
# Names of things are far more than captions show. With more weight drawings of single things are found more
# often, and photos by captions less often.
NAMES_WEIGHT = 0.3
NAMES_STEP = 8  # of 37,006 names, every so manieth


def write_multilingual(
    captions: Path, split: str, output: Path,
    sentences: Callable[[Sequence[str]], np.ndarray], builtin: Callable[[Sequence[str]], np.ndarray],
) -> np.ndarray:
    """Learn the map from one caption of each photo of a split and from names of things, and write it.

    sentences, builtin  texts to unit rows (n, width) and (n, d)

    Returns it, float32 (d, width). Raises CaptionsError, EncoderError, OSError.
    """
    firsts: dict[str, str] = {}
    for caption in read_captions(captions, split=split).captions:
        firsts.setdefault(caption.image, caption.text)
    names = names_of_things()[::NAMES_STEP]
    texts = [*firsts.values(), *names]
    weights = np.array([1.0] * len(firsts) + [NAMES_WEIGHT] * len(names))
    projection = linear_map(sentences(texts), builtin(texts), weights)
    write_atomically(output, save({PROJECTION: projection}))
    return projection


def linear_map(
    sources: np.ndarray, targets: np.ndarray, weights: np.ndarray, ridge: float = RIDGE
) -> np.ndarray:
    """W of the formula above: float32 (d, width), of sources (n, width), targets (n, d), weights (n,)."""
    sources = sources.astype(np.float64)
    weighted = sources * weights[:, None]
    square = weighted.T @ sources + ridge * np.eye(sources.shape[1])
    return np.linalg.solve(square, weighted.T @ targets).T.astype(np.float32, order="C")


def names_of_things() -> list[str]:
    """What ImageNet's 21,841 classes are called: WordNet lemmas, as timm lists them."""
    info = ImageNetInfo("imagenet22k")
    described = (info.index_to_description(index) for index in range(info.num_classes()))
    return sorted({name.strip() for one in described for name in one.split(",")} - {""})
