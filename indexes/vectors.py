"""The gate that every vector passes: float32, (n, d), finite, unit length.

FAISS takes float64 without a word, raises an empty AssertionError on a wrong dimension and
ranks NaN as it pleases. So vectors are checked here, once, before FAISS sees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from indexes.errors import DimensionError, VectorError

UNIT_TOLERANCE = 1e-3  # how far from 1 a norm may be: float16 rounding stays below 5e-4
BLOCK_ROWS = 65536


def as_queries(queries: Any, dim: int) -> np.ndarray:
    """Return queries (q, dim) as as_unit_rows does, q = 0 included.

    Raises DimensionError if they are not dim-dimensional, VectorError for every other fault.
    """
    rows = as_unit_rows(queries, name="queries")
    if rows.shape[1] != dim:
        raise DimensionError(
            f"The queries are {rows.shape[1]}-d, the index is {dim}-d: they come from different "
            "encoders. Encode the queries with the encoder the index was built with."
        )
    return rows


def as_unit_rows(vectors: Any, *, name: str = "vectors", first_row: int = 0) -> np.ndarray:
    """Return `vectors` as a C-contiguous float32 array of unit rows; nothing is converted.

    vectors    (n, d) float32 array or tensor, unit rows
    name       what a message calls them
    first_row  number of the first row, for messages about a block

    Raises VectorError on another dtype or shape, a non-finite value, or a row whose norm is
    more than 1e-3 away from 1.
    """
    rows = _as_array(vectors, name)
    if rows.dtype != np.float32:
        raise VectorError(
            f"{name} must be float32, got {rows.dtype}. Convert: {name}.astype(np.float32)."
        )
    if rows.ndim != 2:
        hint = " Pass one vector as shape (1, d): vector[None, :]." if rows.ndim == 1 else ""
        raise VectorError(f"{name} must have shape (n, d), got shape {rows.shape}.{hint}")
    rows = np.ascontiguousarray(rows)
    _check_unit_length(rows, name, first_row)
    return rows


def shape_of(vectors: Any) -> tuple[int, int]:
    """Return (n, d) of an array-like without reading its rows; raise VectorError if it has none."""
    shape = tuple(getattr(vectors, "shape", ()))
    if len(shape) != 2 or shape[1] < 1:
        what = f"shape {shape}" if shape else f"a {type(vectors).__name__} without a 2-D shape"
        raise VectorError(f"vectors must be an array of shape (n, d) with d >= 1, got {what}.")
    return int(shape[0]), int(shape[1])


def unit_blocks(vectors: Any, block_rows: int = BLOCK_ROWS) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, block) over stored vectors; block is float32 (<= block_rows, d), unit rows.

    vectors  (n, d) float32 or float16: an array, a memory map, or anything with a shape whose
             row ranges can be sliced. Only one block is in memory at a time.

    float16 rows are widened and brought back to unit length, which rounding left up to 1e-4
    off; float32 rows are passed through as they are.
    """
    n, _ = shape_of(vectors)
    for start in range(0, n, block_rows):
        yield start, unit_block(vectors, start, start + block_rows)


def unit_block(vectors: Any, start: int, stop: int) -> np.ndarray:
    """Return rows start..stop - 1, or up to the last, as `unit_blocks` yields them."""
    block = _as_array(vectors[start:stop], "vectors")
    stored_small = block.dtype == np.float16
    if stored_small:
        block = block.astype(np.float32)
    block = as_unit_rows(block, first_row=start)
    if stored_small:
        block /= np.linalg.norm(block, axis=1, keepdims=True)  # (b, 1)
    return block


def _as_array(vectors: Any, name: str) -> np.ndarray:
    if hasattr(vectors, "detach"):  # a torch tensor, wherever it lives
        vectors = vectors.detach().cpu()
    try:
        return np.asarray(vectors)
    except (TypeError, ValueError) as error:  # ragged lists; dtypes NumPy lacks, as bfloat16
        raise VectorError(
            f"{name} must be a float32 array of shape (n, d), and NumPy cannot read them: {error}."
        ) from None


def _check_unit_length(rows: np.ndarray, name: str, first_row: int) -> None:
    with np.errstate(all="ignore"):  # inf and NaN are what we are looking for
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))  # (n,)
        bad = ~(np.abs(norms - 1) <= UNIT_TOLERANCE)  # (n,), true for NaN
    if not bad.any():
        return
    first = int(np.argmax(bad))
    row = first_row + first
    if not np.isfinite(rows[first]).all():
        raise VectorError(
            f"{name} row {row} has a non-finite value (NaN or infinity): the encoder failed on it."
        )
    raise VectorError(
        f"{name} row {row} has norm {norms[first]:.4g}, not 1. Normalise: "
        f"{name} / np.linalg.norm({name}, axis=1, keepdims=True)."
    )
