"""LiveIndex: an index that still holds vectors which are no longer to be found."""

from __future__ import annotations

from typing import Any

import numpy as np

from indexes.errors import VectorError
from indexes.index import VectorIndex
from indexes.matches import Matches, checked_count, no_matches
from indexes.refined import RefinedIndex
from indexes.spec import IndexSpec
from indexes.vectors import as_queries

_SPARE = 8
_WIDER = 4  # how many times as many are asked for, where too many were dead


class LiveIndex:
    """Finds what the index inside finds, but for dead rows: they make room for the next best.

    For an index that goes on after deletions without being built anew. Searches may run in
    several threads at once.
    """

    def __init__(self, index: VectorIndex | RefinedIndex, live: np.ndarray) -> None:
        """live  bool, one for each row number that the index may return: which are to be found"""
        held = (index.index if isinstance(index, RefinedIndex) else index).rows
        if live.dtype != bool or live.ndim != 1 or (len(held) and held[-1] >= len(live)):
            raise VectorError(
                f"live must be bool, one for each row up to {held[-1] if len(held) else 0}, got "
                f"{live.dtype} of shape {live.shape}."
            )
        self.index = index
        self._live = live
        self.n = int(live[held].sum())

    def __repr__(self) -> str:
        return f"LiveIndex({self.index!r}, n={self.n})"

    @property
    def dim(self) -> int:
        """How many dimensions a vector has."""
        return self.index.dim

    @property
    def spec(self) -> IndexSpec:
        """What the index was built from."""
        return self.index.spec

    @property
    def device(self) -> str:
        """Where the index runs: "cpu" or "gpu"."""
        return self.index.device

    @property
    def nbytes(self) -> int:
        """How many bytes the index takes, what is dead included."""
        return self.index.nbytes

    def search(self, queries: Any, k: int, *, allowed: Any = None, **settings: Any) -> Matches:
        """Return the k highest-scoring live rows for each query.

        allowed   bool, as long as `live`: only these rows; None allows all
        settings  as the index inside takes them

        Returns and raises what the search of the index inside does.
        """
        if allowed is not None:
            return self.index.search(queries, k, allowed=self._live & allowed, **settings)
        queries = as_queries(queries, self.dim)
        k = checked_count(k, "k")
        best = no_matches(len(queries), k)
        wanted = min(k, self.n)
        asked, width = np.arange(len(queries)), min(wanted + _SPARE, self.index.n)
        while len(asked) and wanted:
            found = self.index.search(queries[asked], width, **settings)  # (a, width)
            alive, count = _alive(found, self._live, wanted)
            # Short lists say that the index has no more to offer.
            done = (count >= wanted) | (found.rows[:, -1] < 0) | (width == self.index.n)
            best.scores[asked[done], :wanted] = alive.scores[done]
            best.rows[asked[done], :wanted] = alive.rows[done]
            asked, width = asked[~done], min(width * _WIDER, self.index.n)
        return best

    def search_exhaustively(self, queries: Any, k: int) -> Matches:
        """Return the k highest-scoring live rows, with no shortcut taken."""
        found = self.index.search_exhaustively(queries, k + self.index.n - self.n)
        return _alive(found, self._live, k)[0]


def _alive(found: Matches, live: np.ndarray, k: int) -> tuple[Matches, np.ndarray]:
    """Return the first k live rows of each line, and how many live ones it has. (q, k), (q,)"""
    kept = (found.rows >= 0) & live[found.rows]
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    real = np.take_along_axis(kept, order, axis=1)
    scores = np.where(real, np.take_along_axis(found.scores, order, axis=1), -np.inf)
    rows = np.where(real, np.take_along_axis(found.rows, order, axis=1), -1)
    return Matches(scores, rows), kept.sum(axis=1)
