"""Images fused with what is said of them: vectors to be searched in place of the images' own.

    photos.collection/fused.npy    derived: row i belongs to the document of row i of vectors/

The vectors of images and captions stay as they are, so that what is said may change: then the file
is made anew with the index. An image of which nothing is said is searched by its own vector.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Mapping

import numpy as np

from retrieval.catalog import Catalog
from retrieval.errors import QueryError
from retrieval.vectors import VectorStore

FILE_NAME = "fused.npy"
IMAGE, CAPTION = PARTS = ("image", "caption")
_BLOCK = 65_536  # rows


def parse_weights(text: str) -> dict[str, float] | None:
    """`image=0.7,caption=0.3` as {"image": 0.7, "caption": 0.3}; None if captions weigh nothing.

    Raises QueryError for other names, and for weights that are no positive numbers.
    """
    weights: dict[str, float] = {CAPTION: 0.0}
    for part in text.split(","):
        name, _, number = (one.strip() for one in part.partition("="))
        if name not in PARTS:
            raise QueryError(f"{part.strip()!r} fuses nothing; write weights such as image=0.7,caption=0.3")
        try:
            weights[name] = float(number)
        except ValueError:
            raise QueryError(f"The weight of {name} is {number!r}; it has to be a number.") from None
        if not 0 <= weights[name] < math.inf:
            raise QueryError(f"The weight of {name} is {number}; it has to be 0 or more.")
    if not weights.get(IMAGE):
        raise QueryError("The weight of image has to be positive; to search captions alone use --in captions.")
    return weights if weights[CAPTION] else None


def in_words(weights: Mapping[str, float]) -> str:
    """What `parse_weights` would read."""
    return ",".join(f"{name}={weights[name]:g}" for name in PARTS)


def opened(path: Path, rows: int, dim: int) -> np.ndarray | None:
    """The file of a collection, mapped: float16 (rows, dim); None if it is not there or does not fit."""
    try:
        found = np.load(path / FILE_NAME, mmap_mode="r")
    except (OSError, ValueError):  # derived: it can be made anew
        return None
    return found if found.shape == (rows, dim) and found.dtype == np.float16 else None


def write(path: Path, vectors: VectorStore, catalog: Catalog, weights: Mapping[str, float]) -> None:
    """Make the file anew. Raises OSError."""
    beside = path / (FILE_NAME + ".tmp")
    try:
        target = np.lib.format.open_memmap(beside, "w+", np.float16, vectors.shape)
        _fill(target, vectors, catalog, weights)
        target.flush()
        del target
        os.replace(beside, path / FILE_NAME)
    finally:
        beside.unlink(missing_ok=True)


def fused(vectors: VectorStore, catalog: Catalog, weights: Mapping[str, float]) -> np.ndarray:
    """What the file would hold, in memory."""
    target = np.empty(vectors.shape, np.float16)
    _fill(target, vectors, catalog, weights)
    return target


def _fill(target: np.ndarray, vectors: VectorStore, catalog: Catalog, weights: Mapping[str, float]) -> None:
    """w_i image + w_c caption, normalised; of several captions the direction of their mean counts."""
    for start in range(0, len(target), _BLOCK):
        stop = min(start + _BLOCK, len(target))
        target[start:stop] = vectors[start:stop]
        pairs = catalog.captions.rows_by_document_row(start, stop)  # (c, 2)
        if not len(pairs):
            continue
        rows, places = np.unique(pairs[:, 0], return_inverse=True)
        said = np.zeros((len(rows), vectors.dim), np.float32)
        np.add.at(said, places, vectors.take(pairs[:, 1]))
        mixed = weights[IMAGE] * vectors.take(rows) + weights[CAPTION] * _units(said)
        target[rows] = np.where(_lengths(mixed) > 0, _units(mixed), vectors.take(rows))


def _units(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(_lengths(rows), 1e-12)


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows, axis=1, keepdims=True)
