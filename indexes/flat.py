"""FlatIndex: exact search straight over stored float16 rows, with nothing built but perhaps a sketch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from indexes.candidates import SCANNED_AT_MOST, candidates
from indexes.errors import SpecError, VectorError
from indexes.matches import Matches, as_bias, as_mask, checked_count, no_matches
from indexes.rescoring import best_among, best_of, unit_doubles
from indexes.rows import Rows
from indexes.sketch import Sketch
from indexes.sketched import Reached, reached
from indexes.spec import IndexSpec
from indexes.vectors import as_queries, shape_of

_SPARE = 64  # candidates beside k; nearly always enough to prove that none is missing
_WIDER = 8  # how many times as many, where it was not


class FlatIndex:
    """What a "Flat" VectorIndex finds, without one: every search reads the rows where they lie.

    The rows may change behind the index only beyond its end, as files that are appended to do.
    Searches may run in several threads at once.
    """

    spec = IndexSpec("Flat")
    device = "cpu"

    def __init__(self, vectors: Any, live: Any = None, sketch: Sketch | None = None) -> None:
        """Take the vectors as they are; none is read before the first search.

        vectors  (n, d) float16 unit rows: an array, a memory map, or anything with a dtype and a
                 shape whose row ranges can be sliced
        live     (m,) int64, strictly increasing: the rows that count, where some were deleted;
                 None counts all
        sketch   of the first rows, as many as it has: makes single queries faster, and changes nothing
                 about what they find

        Raises VectorError on another dtype or shape, or rows that are not there.
        """
        rows, self.dim = shape_of(vectors)
        if vectors.dtype != np.float16:
            raise VectorError(
                f"vectors to be searched where they lie must be float16, got {vectors.dtype}."
            )
        mask = None if live is None else _mask(live, rows)
        self.n = rows if mask is None else int(mask.sum())
        self._rows = Rows(vectors, rows, self.dim, mask)
        self._sketch = sketch
        self._past = Reached()
        self._given: tuple[Any, Rows] = None, self._rows  # a bias, and the rows with it

    def __repr__(self) -> str:
        return f'FlatIndex("{self.spec.factory}", n={self.n}, dim={self.dim}, {self.device})'

    @property
    def nbytes(self) -> int:
        """How many bytes a search reads, without a sketch: those of all rows. The index itself has none."""
        return 2 * self._rows.n * self.dim

    def search(
        self,
        queries: Any,
        k: int,
        *,
        nprobe: int | None = None,
        ef_search: int | None = None,
        allowed: Any = None,
        bias: Any = None,
    ) -> Matches:
        """Return the k highest-scoring rows for each query, whatever the precision on the way.

        queries            (q, d) float32, unit rows
        k                  results per query, at least 1
        nprobe, ef_search  None: there is nothing to set
        allowed            (m,) bool, m at least the number of vectors, deleted ones included: which
                           rows may be found; None allows all
        bias               (m,) float32 likewise, whose values have to stay as they are: taken from each
                           row's score for the order of the results, and for which they are; the
                           scores returned are without it, and need then not descend

        Returns Matches: scores (q, k) descending in [-1, 1], rows (q, k) with equal scores by
        lower row; -1 and -inf pad short lists. A score is the cosine of the query and the stored
        row, computed in float64 and rounded to float32; so it does not depend on what else is
        asked or stored.
        Raises DimensionError if d differs from the rows, VectorError on unfit queries or a row
        that comes into question and is not of unit length, SpecError on a search parameter,
        VectorIndexError on k < 1, or an `allowed` or `bias` of another type or too short.
        """
        queries = as_queries(queries, self.dim)  # (q, d)
        k = checked_count(k, "k")
        for name, value in (("nprobe", nprobe), ("ef_search", ef_search)):
            if value is not None:
                checked_count(value, name, SpecError)
                raise SpecError(f'{name} means nothing to "{self.spec.factory}"; leave it out.')
        found = no_matches(len(queries), k)
        rows = self._rows if bias is None else self._biased(bias)
        if allowed is not None:
            rows = rows.only(as_mask(allowed, rows.n))
        count = rows.count()
        wanted = min(k, count)
        if wanted == 0 or len(queries) == 0:
            return found
        exact = unit_doubles(queries)
        rough = exact.astype(np.float32)

        def settle_by_sketch(query: int) -> bool:
            """Note what the sketch proves of a query; whether it does."""
            near = reached(rows, self._sketch, rough[query], wanted, past)
            if near is not None:
                found.scores[query, :wanted], found.rows[query, :wanted] = best_among(rows, near, exact[query], wanted)
            return near is not None

        past = self._past if allowed is None else Reached()  # which may allow anything
        asked, width = np.arange(len(queries)), wanted + _SPARE
        if self._sketch is not None and len(asked) <= SCANNED_AT_MOST:
            asked = asked[[not settle_by_sketch(query) for query in asked]]
        while len(asked):
            width = min(width, count)
            near = candidates(rows, rough[asked], width)
            possible, complete = near.possible(wanted)
            complete |= width == count
            done = asked[complete]
            best = best_of(rows, near.rows, possible & complete[:, None], exact[asked], wanted)
            found.scores[done, :wanted], found.rows[done, :wanted] = best.scores[complete], best.rows[complete]
            asked = asked[~complete]
            width *= _WIDER
        return found

    def _biased(self, bias: Any) -> Rows:
        """The rows with a bias, which is checked once while the same one is given again."""
        given, rows = self._given
        if bias is not given:
            rows = replace(self._rows, bias=as_bias(bias, self._rows.n)[: self._rows.n])
            self._given = bias, rows
        return rows

    def search_exhaustively(self, queries: Any, k: int) -> Matches:
        """Return what search() does: it leaves nothing out. For what VectorIndex means by it."""
        return self.search(queries, k)


def _mask(live: Any, n: int) -> np.ndarray | None:
    """Return which of n rows count, (n,) bool; None if all do."""
    live = np.asarray(live)
    if live.dtype != np.int64 or live.ndim != 1:
        raise VectorError(
            f"live must be int64 of shape (m,), got {live.dtype} of shape {live.shape}."
        )
    if len(live) and (live[0] < 0 or live[-1] >= n or (np.diff(live) <= 0).any()):
        raise VectorError(f"live must be strictly increasing rows of 0..{n - 1}.")
    if len(live) == n:
        return None
    mask = np.zeros(n, dtype=bool)
    mask[live] = True
    return mask
