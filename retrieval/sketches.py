"""The sketch of a collection's vectors, which makes exact search faster: see `indexes.sketch`.

    photos.collection/vectors/rows.sketch

It lies beside the vectors that it is of, and goes with them when they are rewritten. It is derived:
without it, or with one that is damaged or short of rows, a search finds the same, and takes longer.
"""

from __future__ import annotations

import logging
from typing import Callable

import numpy as np

from indexes import Sketch, read_sketch, sketch_of, sketch_pays, write_sketch
from indexes.errors import IndexFileError, VectorError
from retrieval.files import replacing
from retrieval.vectors import VectorStore

log = logging.getLogger("retrieval")

FILE_NAME = "rows.sketch"
_BEHIND = 16  # one in so many rows may lack in it
_GROWN = 2  # times as many rows as it was made of


def opened(vectors: VectorStore) -> Sketch | None:
    """The sketch of these vectors; None if there is none that can be read."""
    try:
        return read_sketch(vectors.folder / FILE_NAME, vectors.dim)
    except IndexFileError:  # derived: the vectors have everything
        return None


def refreshed(vectors: VectorStore, queries: Callable[[], np.ndarray | None]) -> Sketch | None:
    """The sketch of the committed vectors, made or brought up to date where that pays.

    queries  gives vectors (q, d) of texts such as will be asked, if there are any

    Raises OSError if it cannot be written.
    """
    file, n = vectors.folder / FILE_NAME, vectors.n
    if not sketch_pays(n):
        return remove(vectors)
    held = opened(vectors)
    if held is not None and n - held.n <= n // _BEHIND and n < _GROWN * held.made_of:
        return held
    try:
        grown = held is None or n >= _GROWN * held.made_of
        sketch = sketch_of(vectors, queries()) if grown else held.extended(vectors)
    except VectorError as error:  # search says so too, once such a row comes into question
        log.warning("%s: exact search is not made faster. %s", vectors.folder, error)
        sketch = None
    if sketch is None:
        return remove(vectors)
    with replacing(file) as beside:
        write_sketch(sketch, beside)
    return opened(vectors)


def bytes_per_vector(vectors: VectorStore) -> float:
    """Of the file; 0 without one."""
    file = vectors.folder / FILE_NAME
    return round(file.stat().st_size / vectors.n, 1) if vectors.n and file.exists() else 0.0


def remove(vectors: VectorStore) -> None:
    """Where none is wanted. Raises OSError."""
    (vectors.folder / FILE_NAME).unlink(missing_ok=True)
