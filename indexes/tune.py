"""Tuning: the cheapest search settings that reach a recall, proved on queries they were not chosen by.

Texts do not lie where images do, so an index that finds the neighbours of images misses those of
texts. Settings are therefore chosen by queries like those that people ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from indexes.errors import VectorIndexError
from indexes.exact import exact_search
from indexes.index import VectorIndex
from indexes.layers import is_ivf, layers, takes_ef_search
from indexes.matches import Matches
from indexes.recall import RecallEstimate, ann_recall_at_k, recall_estimate
from indexes.refined import RefinedIndex
from indexes.spec import IndexSpec
from indexes.vectors import as_queries, shape_of

K = 10
SECONDS = 60.0
_CHOSEN_BY = 2 / 3  # of the text queries; the others prove the choice
_MARGIN = 0.25  # standard errors that the recall must stay above its target: more would often cost a step too many
_FINE = 50  # a setting is found to one part in so many
_WIDEST = 64  # candidates for each result
_EF_MOST = 4096
_TIMED_ALONE = 50  # queries


@dataclass(frozen=True)
class Tuning:
    """The settings that were chosen, in `spec`, and what they reach; recall is at 10.

    reached   whether the target was, by the queries it was chosen by
    complete  whether the search for something cheaper came to its end in time
    text      recall of text queries that took no part in choosing
    image     recall of image queries, None without any
    p50_ms    of one text query searched alone
    queries_per_second  of all text queries in one batch
    """

    spec: IndexSpec
    target: float
    reached: bool
    complete: bool
    text: RecallEstimate
    image: RecallEstimate | None
    p50_ms: float
    queries_per_second: float


def tune_index(
    index: VectorIndex | RefinedIndex,
    vectors: Any,
    text: Any,
    image: Any = None,
    *,
    target: float,
    rows: np.ndarray | None = None,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuning:
    """Search nprobe or efSearch, and refine, for the cheapest point that reaches the target.

    vectors  (n, d) as exact_search takes them: those in the index
    text     (q, d) float32 unit rows, q >= 3, none of them in the index: a third is kept to prove
             the choice
    image    (p, d) float32 unit rows, or None
    target   recall@10 of text queries against exact search, in (0, 1]
    rows     (n,) int64, the row numbers of `vectors`; None numbers them 0..n-1
    seconds  to spend on choosing, more or less: exact search comes before, proving after

    Raises VectorIndexError on an empty index, fewer than 3 queries, or another target.
    """
    n, dim = shape_of(vectors)
    text = as_queries(text, dim)
    check_target(target)
    if n == 0 or len(text) < 3:
        raise VectorIndexError(f"There is nothing to tune with: {n} vectors, {len(text)} queries.")
    fit = round(_CHOSEN_BY * len(text))
    exact = _exact(vectors, text, rows)
    search = _Search(index, text[:fit], _part(exact, 0, fit), target, clock() + seconds, clock)
    point = search.cheapest()
    spec = replace(index.spec, **point)
    proof, took = _recall(index, text[fit:], _part(exact, fit, len(text)), point)
    return Tuning(
        spec=spec,
        target=target,
        reached=search.reaches(point),
        complete=not search.is_late(),
        text=recall_estimate(proof),
        image=None if image is None or not len(image) else recall_estimate(
            _recall(index, as_queries(image, dim), _exact(vectors, image, rows), point)[0]
        ),
        p50_ms=1000 * _alone(index, text[fit:], point),
        queries_per_second=(len(text) - fit) / took,
    )


def check_target(target: float) -> None:
    """Raise VectorIndexError unless a recall of `target` can be asked for."""
    if not 0 < target <= 1:
        raise VectorIndexError(f"A target recall is above 0 and at most 1, got {target!r}.")


Point = dict[str, int]  # settings of a search: nprobe or ef_search, refine


class _Search:
    """What was tried, on the queries to choose by. Recall grows with each setting, and so does time:

    short queries stay short, as a scan for them would turn both round.
    """

    def __init__(
        self, index: VectorIndex | RefinedIndex, queries: np.ndarray, exact: Matches,
        target: float, deadline: float, clock: Callable[[], float],
    ) -> None:
        self._index, self._queries, self._exact = index, queries, exact
        self._target, self._deadline, self._clock = target, deadline, clock
        self._tried: dict[tuple, tuple[RecallEstimate, float]] = {}
        self._visits, self._least, self._most = _visits(index)

    def cheapest(self) -> Point:
        """The cheapest point found that reaches the target; the one of highest recall if none does."""
        if not isinstance(self._index, RefinedIndex):
            self._first_that_reaches(self._visits, self._least, self._most, {})
            return self._chosen()
        least, refine = self._least, _WIDEST
        best = np.inf
        while refine >= 1 and not self.is_late():
            point = self._first_that_reaches(self._visits, least, self._most, {"refine": refine})
            if not self.reaches(point):
                break  # with fewer candidates still less
            cost = self._cost(point)
            if cost > 1.1 * best:
                break
            best = min(best, cost)
            least, refine = point.get(self._visits, least), refine // 2
        point = self._chosen()
        # Between the widths that were tried, and then with what that leaves to visit.
        fixed = {name: value for name, value in point.items() if name != "refine"}
        point = self._first_that_reaches("refine", point["refine"] // 2 + 1, point["refine"], fixed)
        if self._visits:
            self._first_that_reaches(
                self._visits, self._least, point[self._visits], {"refine": point["refine"]}
            )
        return self._chosen()

    def reaches(self, point: Point) -> bool:
        """With a margin, as other queries will differ; a recall of 1 cannot be bettered."""
        estimate = self._evaluated(point)[0]
        return estimate.low >= self._target or estimate.value == 1

    def is_late(self) -> bool:
        return self._clock() > self._deadline

    def _first_that_reaches(self, name: str | None, least: int, most: int, fixed: Point) -> Point:
        """The least value of one setting that reaches the target, with the others fixed.

        Doubling, then bisection; `most` if none does.
        """
        if name is None:
            return fixed if self._evaluated(fixed) else fixed
        below, value = least - 1, least
        while not self.reaches({name: value, **fixed}) and value < most and not self.is_late():
            below, value = value, min(2 * value, most)
        while value - below > max(1, value // _FINE) and not self.is_late():
            middle = (below + value) // 2
            if self.reaches({name: middle, **fixed}):
                value = middle
            else:
                below = middle
        return {name: value, **fixed}

    def _chosen(self) -> Point:
        points = [dict(key) for key in self._tried]
        good = [point for point in points if self.reaches(point)]
        if not good:
            return max(points, key=lambda point: self._evaluated(point)[0].value)
        # Whatever a clock says: with less of everything no search takes longer.
        good = [point for point in good if not any(_is_less(other, point) for other in good)]
        quickest = min(self._evaluated(point)[1] for point in good)
        # Alone, a query costs otherwise than in a batch: of those that do well in one, both count.
        near = [point for point in good if self._evaluated(point)[1] <= 1.5 * quickest]
        return min(near, key=self._cost)

    def _cost(self, point: Point) -> float:
        """The geometric mean of what a query takes in a batch and alone, in seconds."""
        return float(np.sqrt(self._evaluated(point)[1] * _alone(self._index, self._queries, point)))

    def _evaluated(self, point: Point) -> tuple[RecallEstimate, float]:
        """Recall with its margin, and the seconds that a query takes in a batch."""
        key = tuple(sorted(point.items()))
        if key not in self._tried:
            recall, took = _recall(self._index, self._queries, self._exact, point)
            self._tried[key] = recall_estimate(recall, z=_MARGIN), took / len(self._queries)
        return self._tried[key]


def _is_less(point: Point, other: Point) -> bool:
    """Whether no setting of a point is above that of another, and one is below."""
    return point != other and all(value <= other[name] for name, value in point.items())


def _visits(index: VectorIndex | RefinedIndex) -> tuple[str | None, int, int]:
    """Return the setting that says how much is visited, if any, and its least and most value."""
    faiss_index = index.index.faiss_index if isinstance(index, RefinedIndex) else index.faiss_index
    for layer in layers(faiss_index):
        if is_ivf(layer):
            return "nprobe", 1, int(layer.nlist)
    if takes_ef_search(faiss_index):
        return "ef_search", K, _EF_MOST
    return None, 1, 1


def _recall(
    index: VectorIndex | RefinedIndex, queries: np.ndarray, exact: Matches, point: Point
) -> tuple[np.ndarray, float]:
    """Return recall@10 of each query (q,), and the seconds that all of them took."""
    start = time.perf_counter()
    found = index.search(queries, K, enough=0, **point)
    took = time.perf_counter() - start
    return ann_recall_at_k(found.rows, exact, K, ties=True), took


def _alone(index: VectorIndex | RefinedIndex, queries: np.ndarray, point: Point) -> float:
    """Return the median of the seconds that one query takes by itself."""
    taken = []
    for query in queries[:_TIMED_ALONE]:
        start = time.perf_counter()
        index.search(query[None], K, enough=0, **point)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _exact(vectors: Any, queries: np.ndarray, rows: np.ndarray | None) -> Matches:
    """Return exact search's matches, twice as many as are asked for: what ties with the last counts."""
    exact = exact_search(vectors, queries, 2 * K)
    if rows is None:
        return exact
    return Matches(exact.scores, np.where(exact.rows >= 0, np.asarray(rows)[exact.rows], -1))


def _part(matches: Matches, start: int, stop: int) -> Matches:
    return Matches(matches.scores[start:stop], matches.rows[start:stop])
