"""RefinedIndex: what an index of small codes finds, put in order by the vectors themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from indexes.candidates import compare
from indexes.device import GPU_MAX_K
from indexes.errors import SpecError, VectorError, VectorIndexError
from indexes.flat import FlatIndex
from indexes.index import VectorIndex
from indexes.matches import Matches, checked_count, no_matches
from indexes.rescoring import best_of, unit_doubles
from indexes.rows import Rows
from indexes.spec import IndexSpec
from indexes.vectors import as_queries, shape_of

_FEW = 128  # candidates of all queries: scored at once, without a rough look that leaves some out


class RefinedIndex:
    """Looks for candidates in an index of small codes, then scores them exactly where they lie.

    Codes of a few bytes per vector are fast and lose much; refined, they lose only what does
    not come among spec.refine * k candidates. Searches may run in several threads at once.
    """

    def __init__(self, index: VectorIndex, vectors: Any) -> None:
        """Take both as they are; no vector is read before the first search.

        index    finds candidates; its rows are those of `vectors`, its spec says refine
        vectors  (n, d) float16 unit rows: an array, a memory map, or anything with a dtype and a
                 shape whose row ranges can be sliced. What has a method take_halves(rows, room),
                 which returns chosen rows (m,) as float16 (m, d), is read faster

        Raises SpecError if the spec does not refine, VectorError on another dtype or shape,
        VectorIndexError if there are fewer vectors than the index has.
        """
        n, dim = shape_of(vectors)
        if index.spec.refine is None:
            raise SpecError(
                f'The spec of "{index.spec.factory}" does not refine. Set refine, for instance to 10.'
            )
        if vectors.dtype != np.float16:
            raise VectorError(f"vectors to refine with must be float16, got {vectors.dtype}.")
        if n < index.n or dim != index.dim:
            raise VectorIndexError(
                f"An index of {index.n} vectors of {index.dim} dimensions cannot be refined with "
                f"{n} of {dim}. Build it from these vectors."
            )
        self.index = index
        self._rows = Rows(vectors, n, dim, None)

    def __repr__(self) -> str:
        return (
            f'RefinedIndex("{self.spec.factory}", refine={self.spec.refine}, n={self.n}, '
            f"dim={self.dim}, {self.device})"
        )

    @property
    def n(self) -> int:
        """How many vectors can be found."""
        return self.index.n

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
        """Where candidates are found: "cpu" or "gpu". They are scored on the CPU."""
        return self.index.device

    @property
    def nbytes(self) -> int:
        """How many bytes the index takes beside the vectors, which are not its own."""
        return self.index.nbytes

    def search(
        self,
        queries: Any,
        k: int,
        *,
        nprobe: int | None = None,
        ef_search: int | None = None,
        refine: int | None = None,
        allowed: Any = None,
        enough: int | None = None,
    ) -> Matches:
        """Return the k highest-scoring rows of the candidates for each query.

        queries  (q, d) float32, unit rows
        k        results per query, at least 1; on a GPU at most 2048
        nprobe, ef_search, allowed, enough  as the index inside takes them
        refine   candidates for each result; None uses the spec's value

        Returns Matches: scores (q, k) descending in [-1, 1], rows (q, k) with equal scores by
        lower row; -1 and -inf pad short lists. A score is what FlatIndex gives the same row.
        Raises what VectorIndex.search() does; SpecError on a refine below 1, VectorError on a
        row that comes into question and is not of unit length.
        """
        queries = as_queries(queries, self.dim)  # (q, d)
        k = checked_count(k, "k")
        refine = self.spec.refine if refine is None else checked_count(refine, "refine", SpecError)
        width = max(k, min(refine * k, self.n))
        if self.device == "gpu":
            width = max(k, min(width, GPU_MAX_K))
        found = self.index.search(
            queries, width, nprobe=nprobe, ef_search=ef_search, allowed=allowed,
            enough=k if enough is None else enough,
        )
        if len(queries) == 0 or self.n == 0:
            return no_matches(len(queries), k)
        exact = unit_doubles(queries)
        possible = found.rows >= 0
        if possible.sum() > _FEW:
            found = compare(self._rows, exact.astype(np.float32), found.rows)
            possible, _ = found.possible(k)
        return best_of(self._rows, found.rows, possible, exact, k)

    def search_exhaustively(self, queries: Any, k: int) -> Matches:
        """Return what exact search over the indexed vectors does: refining leaves no loss of codes.

        For what VectorIndex means by it. As slow as comparing with every vector.
        """
        return FlatIndex(self._rows.vectors, self.index.rows).search(queries, k)
