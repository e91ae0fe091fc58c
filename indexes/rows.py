"""Stored rows where they lie, read a range or a few named ones at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Rows:
    """Stored rows: where they lie, and which of them count.

    vectors  (n, d) float16, or anything with a shape whose row ranges can be sliced; rows named one
             by one are gathered faster from what has a method take_halves(rows, room)
    live     (n,) bool, or None if all rows count
    bias     (n,) float32 that is taken from each row's score; None takes nothing
    """

    vectors: Any
    n: int
    dim: int
    live: np.ndarray | None
    bias: np.ndarray | None = None

    def only(self, allowed: np.ndarray) -> Rows:
        """These rows with fewer of them counting. allowed (n,) bool"""
        return replace(self, live=allowed if self.live is None else allowed & self.live)

    @cached_property
    def largest_bias(self) -> float:
        """The largest bias in size: a score without it is farther from 0 by so much at most."""
        return 0.0 if self.bias is None or not len(self.bias) else float(max(self.bias.max(), -self.bias.min()))

    @cached_property
    def mean_bias(self) -> float:
        return 0.0 if self.bias is None or not len(self.bias) else float(self.bias.mean(dtype=np.float64))

    @cached_property
    def _lowest(self) -> dict[int, np.ndarray]:
        return {}

    def lowest_bias(self, block: int) -> np.ndarray:
        """The lowest bias of each block of so many rows, 0 without one. (b,) float64"""
        if block not in self._lowest:
            lowest = np.zeros(-(-self.n // block))
            if self.bias is not None:
                lowest[:] = np.minimum.reduceat(self.bias[: self.n], np.arange(0, self.n, block))
            self._lowest[block] = lowest
        return self._lowest[block]

    def count(self) -> int:
        """How many rows count."""
        return self.n if self.live is None else int(np.count_nonzero(self.live))

    def pieces(self, rows: int) -> Iterator[range]:
        """Ranges of so many rows, those left out in which none counts."""
        for start in range(0, self.n, rows):
            if self.live is None or self.live[start : start + rows].any():
                yield range(start, min(start + rows, self.n))

    def read(self, piece: range) -> np.ndarray:
        """float16 (len(piece), d), C-contiguous; not copied where the vectors are mapped."""
        return np.ascontiguousarray(self.vectors[piece.start : piece.stop])

    def gather(self, numbers: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
        """The rows of these numbers (m,), as they are stored: float16 (m, d), C-contiguous; in `room` if given."""
        found = np.empty((len(numbers), self.dim), np.float16) if room is None else room
        if hasattr(self.vectors, "take_halves"):
            return self.vectors.take_halves(numbers, found)
        if isinstance(self.vectors, np.ndarray):
            # Numbers are of rows that there are: clipping changes none, and does without a copy.
            return np.take(np.asarray(self.vectors), numbers, axis=0, out=found, mode="clip")
        for at, number in enumerate(numbers.tolist()):
            found[at] = self.vectors[number : number + 1][0]
        return found
