"""An index as a search wants it: among the rows that are allowed, and less their biases for texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from indexes import FlatIndex, Matches, RefinedIndex, VectorIndex, search_biased


@dataclass(frozen=True, eq=False)
class Nearest:
    """biases: (n,) float32 by vector row, None if nothing is calibrated. allowed: (n,) bool, None for all."""

    index: FlatIndex | VectorIndex | RefinedIndex
    biases: np.ndarray | None = None
    allowed: np.ndarray | None = None

    @property
    def n(self) -> int:
        """How many rows can be found at most."""
        return self.index.n

    def search(self, vectors: np.ndarray, k: int, calibrated: Sequence[bool] | None = None) -> Matches:
        """The k best rows of each vector (q, d), with their cosines.

        calibrated  which of the q are ordered by score less bias; None: none
        """
        chosen = np.zeros(len(vectors), bool) if calibrated is None else np.asarray(calibrated, bool)
        if self.biases is None or not chosen.any():
            return self.index.search(vectors, k, allowed=self.allowed)
        if chosen.all():
            return search_biased(self.index, vectors, k, self.biases, allowed=self.allowed)
        matches = self.index.search(vectors, k, allowed=self.allowed)
        biased = search_biased(self.index, vectors[chosen], k, self.biases, allowed=self.allowed)
        for whole, part in zip(matches, biased):
            whole[chosen] = part
        return matches
