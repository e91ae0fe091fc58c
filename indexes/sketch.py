"""A sketch of stored rows: fewer bytes to read first, and how far off what they say may be.

Rows are turned so that the first of the new dimensions say most: along the eigenvectors of their
covariance (PCA). Of these some are kept, a byte each; one more byte holds the length of the rest:

    row = mean + basis (middle + step * codes + error) + rest
    q . row <= q . mean + p . (middle + step * codes) + |p| |error| + |q - basis p| |rest|

with p = basis' q, by Cauchy and Schwarz. All but the codes and the rest's length is the same for all
rows of a block, so that one inner product with the bytes of a row says how much it may score at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from indexes.threads import in_threads
from indexes.vectors import as_unit_rows, shape_of

BLOCK_ROWS = 32768  # of which the largest error and rest are kept
_AT_LEAST = 32768  # rows; fewer are scanned as fast themselves
_AT_ONCE = 2048  # rows that are encoded: in float64 they stay in the processor's cache
_SAMPLED = 16384  # rows that the basis is made from
_RUNS = 64  # that they come in
_WIDTHS = (64, 128, 192, 256, 384, 512, 768, 1024)  # bytes a row; sums of more are not whole in float32
_TRIED = 32  # queries, to choose the width by
_TRIED_K = 10  # of all rows
_GATHERED = 8  # times as long as in a scan it takes to read a row by itself
_PAYS = 0.7  # share of what a scan of the rows reads, from which on a sketch is left alone
_STRETCH = 0.4  # how much farther than the sample's the codes reach, of its range
_UNTHREADED = 2**15  # numbers in a matrix
_ROUNDING = 2.0**-40  # of all that is computed in float64 here, amply


@dataclass(frozen=True, eq=False)
class Sketch:
    """What is kept of n rows of d dimensions, in w bytes a row.

    mean    (d,) float64
    basis   (d, w - 1) float64, orthonormal columns
    middle  (w - 1,) float64: what the code 0 stands for; step (w - 1,): what one more adds
    errors  (b, 3) float64, by block of rows: the longest error, what one step of the last byte adds
            to the length of the rest, and the greatest length of the codes before it
    codes   (n, w) uint8: a byte b stands for the code b - 128, the last one for b itself
    made_of how many rows there were to choose mean, basis, middle and step by
    """

    mean: np.ndarray
    basis: np.ndarray
    middle: np.ndarray
    step: np.ndarray
    errors: np.ndarray
    codes: np.ndarray
    made_of: int

    @property
    def n(self) -> int:
        return len(self.codes)

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def width(self) -> int:
        """Bytes a row."""
        return len(self.step) + 1

    def blocks(self, n: int) -> Iterator[tuple[int, range]]:
        """(number, rows) of each block of the first n rows."""
        for number, start in enumerate(range(0, n, BLOCK_ROWS)):
            yield number, range(start, min(start + BLOCK_ROWS, n))

    @cached_property
    def _directions(self) -> list[np.ndarray]:
        """The basis by line, some (s, d) at a time: a larger product would wake BLAS' threads, which takes longer."""
        lines = np.ascontiguousarray(self.basis.T)
        return np.array_split(lines, -(-lines.size // _UNTHREADED))

    def asked(self, query: np.ndarray) -> Asked:
        """What a query has to be for the codes. query (d,), a unit row"""
        exact = query.astype(np.float64)
        inside = np.concatenate([some @ exact for some in self._directions])  # (w - 1,)
        outside = (max(float(exact @ exact - inside @ inside), 0.0) + _ROUNDING) ** 0.5
        longest, rest, size = self.errors.T  # (b,) each
        wanted = inside * self.step
        unit = max(np.abs(wanted).max(initial=0), outside * rest.max(initial=0)) / 127 + _ROUNDING
        weights = np.empty((len(self.errors), self.width), np.float32)  # (b, w)
        weights[:, :-1] = np.rint(wanted / unit)
        weights[:, -1] = np.minimum(np.ceil(outside * rest / unit), 127)
        lost = np.linalg.norm(wanted - unit * weights[0, :-1].astype(np.float64))
        centre = float(exact @ self.mean + inside @ self.middle)
        added = centre + 128 * unit * weights[:, -1].astype(np.float64)
        added += (np.linalg.norm(inside) + _ROUNDING) * longest + lost * size  # (b,)
        return Asked(weights, unit, added, centre, float(np.linalg.norm(wanted)) + _ROUNDING)

    def extended(self, vectors: Any) -> Sketch:
        """With the rows that `vectors`, (m, d) float16, has behind those of the sketch.

        A block that was not full is made anew. Raises VectorError on a row that is not of unit length.
        """
        kept = self.n // BLOCK_ROWS
        n = shape_of(vectors)[0]
        codes = np.empty((n, self.width), np.uint8)
        codes[: kept * BLOCK_ROWS] = self.codes[: kept * BLOCK_ROWS]
        errors = np.empty((-(-n // BLOCK_ROWS), 3))
        errors[:kept] = self.errors[:kept]

        def encode(block: tuple[int, range]) -> None:
            number, rows = block
            errors[number] = self._encode(vectors, rows, codes[rows.start : rows.stop])

        in_threads(encode, [block for block in self.blocks(n) if block[0] >= kept])
        return replace(self, errors=errors, codes=codes)

    def _encode(self, vectors: Any, rows: range, codes: np.ndarray) -> tuple[float, float, float]:
        """Fill the codes (r, w) of one block; its line of `errors`."""
        longest, size, rests = 0.0, 0.0, np.empty(len(rows))
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, min(start + _AT_ONCE, len(rows)))
            centred = unit_doubles_of(vectors, rows.start + part.start, rows.start + part.stop) - self.mean
            inside = centred @ self.basis  # (p, w - 1)
            code = np.clip(np.rint((inside - self.middle) / self.step), -128, 127)
            codes[part, :-1] = code + 128
            error = inside - self.middle - self.step * code
            longest = max(longest, float(_squares(error).max()) ** 0.5)
            size = max(size, float(_squares(code).max()) ** 0.5)
            squares = _squares(centred) - _squares(inside)
            # What rounding leaves of a difference of squares near 1 is below 2**-40.
            rests[part] = np.sqrt(np.maximum(squares, 0) + _ROUNDING)
        step = float(rests.max()) / 255 * (1 + _ROUNDING)
        codes[:, -1] = np.minimum(np.ceil(rests / step), 255)
        return longest + _ROUNDING, step, size


@dataclass(frozen=True, eq=False)
class Asked:
    """A query as the codes want it.

    weights  (b, w) float32 whole numbers from -127 to 127, by block: of the bytes less 128
    unit     what 1 of the inner product with the weights stands for
    added    (b,) float64: with that, it is at least the row's cosine
    centre   what a row in the middle scores, and spread: about in proportion to how far rows are from that
    """

    weights: np.ndarray
    unit: float
    added: np.ndarray
    centre: float
    spread: float


def sketch_pays(n: int) -> bool:
    """Whether so many rows are searched faster with a sketch."""
    return n >= _AT_LEAST


def sketch_of(vectors: Any, queries: np.ndarray | None = None) -> Sketch | None:
    """Make a sketch of rows; None if none would make a search of them faster.

    vectors  (n, d) float16 unit rows, n >= 1: an array, or anything with a shape whose row ranges
             can be sliced
    queries  (q, d) float32 unit rows such as will be asked; None takes rows for queries

    How wide it is depends on how many rows it would leave in question, tried on a sample.
    Raises VectorError on rows that are not of unit length.
    """
    n, dim = shape_of(vectors)
    sample = _sample(vectors, n)
    asked = sample[:: -(-len(sample) // _TRIED)] if queries is None else queries[:: -(-len(queries) // _TRIED)]
    mean, basis = _turned(sample)
    inside = (sample - mean) @ basis  # (s, d)
    widths = [width for width in _WIDTHS if width < dim] + [dim] * (dim <= _WIDTHS[-1])
    k = max(1, min(len(sample), round(_TRIED_K * len(sample) / n)))  # as rare as the last of so many of all rows
    prices = [_price(width, sample, inside, mean, basis, asked, k) for width in widths]
    if min(prices) > _PAYS * 2 * dim:
        return None
    kept = widths[int(np.argmin(prices))] - 1
    return _empty(mean, basis[:, :kept], inside[:, :kept], n).extended(vectors)


def _empty(mean: np.ndarray, basis: np.ndarray, inside: np.ndarray, n: int) -> Sketch:
    """A sketch of no rows yet, whose codes reach as far as the sample, and some more. inside (s, w - 1)"""
    low, high = inside.min(axis=0), inside.max(axis=0)
    step = np.maximum((1 + 2 * _STRETCH) * (high - low) / 255, 1e-9)
    codes = np.empty((0, len(step) + 1), np.uint8)
    middle = (low + high + step) / 2  # of codes from -128 to 127
    return Sketch(mean, np.ascontiguousarray(basis), middle, step, np.empty((0, 3)), codes, n)


def _turned(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (d,), and the directions (d, d) in columns, those in which rows differ most first."""
    mean = sample.mean(axis=0)
    centred = sample - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)  # by ascending eigenvalue
    return mean, np.linalg.qr(vectors[:, ::-1])[0]  # orthonormal to the last bit


def _price(
    width: int, sample: np.ndarray, inside: np.ndarray, mean: np.ndarray, basis: np.ndarray, queries: np.ndarray,
    k: int,
) -> float:
    """Bytes that a search reads for each row, as if one by one were as fast as in a row.

    inside  (s, d): the sample less the mean, in directions of the basis (d, d)
    k       results, at most s
    """
    kept, turned = width - 1, queries @ basis  # (q, d)
    steps = np.ptp(inside[:, :kept], axis=0) * (1 + 2 * _STRETCH) / 255
    outside = np.linalg.norm(inside[:, kept:], axis=1)[:, None] * np.linalg.norm(turned[:, kept:], axis=1)
    most = inside[:, :kept] @ turned[:, :kept].T + outside + queries @ mean  # (s, q)
    most += np.sqrt((steps**2).sum() / 12)  # about the length of an error
    scores = sample @ queries.T
    in_question = np.mean(most >= np.partition(scores, -k, axis=0)[-k] - 1e-6)  # copies are in question
    return width + float(in_question) * _GATHERED * 2 * sample.shape[1]


def _sample(vectors: Any, n: int) -> np.ndarray:
    """Runs of rows from all over, in float64. (s, d)"""
    if n <= _SAMPLED:
        return unit_doubles_of(vectors, 0, n)
    run = _SAMPLED // _RUNS
    starts = np.linspace(0, n - run, _RUNS).astype(int).tolist()
    return np.concatenate([unit_doubles_of(vectors, start, start + run) for start in starts])


def _squares(rows: np.ndarray) -> np.ndarray:
    """The squared length of each row. (n,)"""
    return np.einsum("nd,nd->n", rows, rows)


def unit_doubles_of(vectors: Any, start: int, stop: int) -> np.ndarray:
    """Rows in float64, of unit length in that. Raises VectorError on rows that are far from it."""
    rows = np.asarray(vectors[start:stop])
    as_unit_rows(rows.astype(np.float32), first_row=start)
    exact = rows.astype(np.float64)
    exact /= np.sqrt(_squares(exact))[:, None]
    return exact
