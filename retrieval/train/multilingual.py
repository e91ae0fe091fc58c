"""The linear map of `builtin-multilingual`, learned from English alone.

Its sentence encoder puts translations close together, so a map that takes English texts to where
the built-in encoder puts them does the same for other languages. Ridge regression has its minimum
in closed form, hence no epochs and no seed:

    W = argmin sum |W s - t|^2 + ridge |W|^2 = T' S (S' S + ridge I)^-1
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from safetensors.numpy import save

from retrieval.corpus.captions import read_captions
from retrieval.encoders.sentence_tower import PROJECTION
from retrieval.files import write_atomically
from retrieval.generic_queries import generic_queries
from retrieval.train.prototypes import class_texts

RIDGE = 0.5
_A_PHOTO_OF = 1  # the place of this template among a class's texts


def write_multilingual(
    captions: Path, split: str, output: Path,
    sentences: Callable[[Sequence[str]], np.ndarray], builtin: Callable[[Sequence[str]], np.ndarray],
) -> np.ndarray:
    """Learn the map from one caption of each photo of a split, and from short texts; write it.

    sentences, builtin  texts to unit rows (n, width) and (n, d)

    Returns it, float32 (d, width). Raises CaptionsError, EncoderError, OSError.
    """
    firsts: dict[str, str] = {}
    for caption in read_captions(captions, split=split).captions:
        firsts.setdefault(caption.image, caption.text)
    # Captions alone teach it little about queries of a word or two.
    texts = [*firsts.values(), *generic_queries(), *(texts[_A_PHOTO_OF] for texts in class_texts())]
    projection = linear_map(sentences(texts), builtin(texts))
    write_atomically(output, save({PROJECTION: projection}))
    return projection


def linear_map(sources: np.ndarray, targets: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """W of the formula above: float32 (d, width), of sources (n, width) and targets (n, d)."""
    sources = sources.astype(np.float64)
    square = sources.T @ sources + ridge * np.eye(sources.shape[1])
    return np.linalg.solve(square, sources.T @ targets).T.astype(np.float32, order="C")
