"""Tuning an index of a collection with texts: its captions, or generic queries where it has none."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np

from indexes import IndexSpec, RecallEstimate, RefinedIndex, VectorIndex, tune_index
from retrieval.catalog import Catalog
from retrieval.files import write_atomically
from retrieval.generic_queries import COUNT, generic_queries
from retrieval.manifest import TuningRecord
from retrieval.vectors import VectorStore

GENERIC_FILE = "generic-queries.npy"  # vectors of the generic queries; derived
CAPTIONS_AT_LEAST = 300  # of fewer, chance says more than the index
_CAPTIONS_AT_MOST = 1500
_IMAGES_AT_MOST = 500

Encode = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class TextQueries:
    """vectors (q, d) float32 unit rows, and in words where the texts came from."""

    vectors: np.ndarray
    texts: str


def text_queries(
    path: Path, catalog: Catalog, vectors: VectorStore, encode: Encode | None, *, captions: bool
) -> TextQueries | None:
    """A sample of the collection's captions if there are some hundreds, else generic queries.

    encode    makes vectors of texts; None: only such as are there already
    captions  whether they will do: not where they are what is searched

    None without an encoder where one is needed. Raises what encode does, and OSError.
    """
    if captions:
        rows = catalog.captions.live_rows()
        rows = rows[rows < vectors.n]
        if len(rows) >= CAPTIONS_AT_LEAST:
            return TextQueries(vectors.take(_sample(rows, _CAPTIONS_AT_MOST)), "captions")
        if encode is not None:
            texts = sorted({text for _, text in catalog.captions.by_id()})
            if len(texts) >= CAPTIONS_AT_LEAST:
                chosen = _sample(np.arange(len(texts)), _CAPTIONS_AT_MOST)
                return TextQueries(encode([texts[place] for place in chosen]), "captions")
    generic = _generic(path / GENERIC_FILE, vectors.dim, encode)
    return None if generic is None else TextQueries(generic, "generic queries")


def tuned(
    index: VectorIndex | RefinedIndex, stored: Any, rows: np.ndarray, queries: TextQueries, target: float
) -> tuple[IndexSpec, TuningRecord]:
    """The spec with the settings that reach the target, and what there is to say of them.

    stored  (n, d) float16, what is in the index; an array, or what can be sliced by row range
    rows    (n,) int64, the row numbers of these
    """
    some = np.sort(_sample(np.arange(len(rows)), _IMAGES_AT_MOST))
    images = np.concatenate([stored[place : place + 1] for place in some.tolist()]).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    result = tune_index(index, stored, queries.vectors, images, target=target, rows=rows)
    return result.spec, TuningRecord(
        target=target, reached=result.reached, text=_numbers(result.text),
        image=None if result.image is None else _numbers(result.image),
        p50_ms=round(result.p50_ms, 3), queries_per_second=round(result.queries_per_second, 1),
        queries=len(queries.vectors), texts=queries.texts,
    )


def _numbers(estimate: RecallEstimate) -> tuple[float, float, float]:
    return tuple(round(number, 4) for number in (estimate.value, estimate.low, estimate.high))


def _generic(file: Path, dim: int, encode: Encode | None) -> np.ndarray | None:
    """Their vectors (1000, d), kept in the collection once they were made."""
    try:
        stored = np.load(file).astype(np.float32)
    except (OSError, ValueError, EOFError):  # none, or damaged
        stored = None
    if stored is not None and stored.shape == (COUNT, dim):
        return stored / np.linalg.norm(stored, axis=1, keepdims=True)
    if encode is None:
        return None
    vectors = encode(generic_queries())
    content = io.BytesIO()
    np.save(content, vectors.astype(np.float16))
    write_atomically(file, content.getvalue())
    return vectors


def _sample(rows: np.ndarray, most: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return np.random.default_rng(0).choice(rows, most, replace=False)
