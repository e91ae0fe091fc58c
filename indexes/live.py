"""LiveIndex: an index that still holds vectors which are no longer to be found."""

from __future__ import annotations

from typing import Any

import numpy as np

from indexes.errors import VectorError
from indexes.index import VectorIndex
from indexes.matches import Matches, as_mask, ranked
from indexes.refined import RefinedIndex
from indexes.spec import IndexSpec


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

        allowed   bool by row number: only these rows; None allows all
        settings  as the index inside takes them

        Returns and raises what the search of the index inside does.
        """
        live = self._live if allowed is None else as_mask(allowed, len(self._live)) & self._live
        return self.index.search(queries, k, allowed=live, **settings)

    def search_exhaustively(self, queries: Any, k: int) -> Matches:
        """Return the k highest-scoring live rows, with no shortcut taken."""
        found = self.index.search_exhaustively(queries, k + self.index.n - self.n)
        kept = (found.rows >= 0) & self._live[found.rows]
        scores = np.where(kept, found.scores, -np.inf)
        best = ranked(scores, np.where(kept, found.rows, -1), max(k, found.rows.shape[1]))
        return Matches(best.scores[:, :k], best.rows[:, :k])
