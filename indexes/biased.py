"""Results by score less a bias of each row, from an index of any kind, which knows nothing of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from indexes.flat import FlatIndex
from indexes.index import VectorIndex
from indexes.matches import Matches, as_bias, checked_count, no_matches, ranked_less_bias
from indexes.refined import RefinedIndex

_SPARE = 64  # candidates beside k
_WIDER = 4  # how many times as many, where rows may be missing
_AT_MOST = 2048  # a GPU's limit, and about where a search would take longer than it gains


def search_biased(
    index: FlatIndex | VectorIndex | RefinedIndex, queries: Any, k: int, bias: Any, **settings: Any
) -> Matches:
    """Return the k rows of highest score less bias for each query, best first, with their scores.

    bias      (m,) float32 by row number, m above every row: taken from each row's score
    settings  as the index's search() takes them: nprobe, ef_search, refine, allowed

    Returns Matches in that order; the scores are the index's own, and need then not descend.
    FlatIndex takes the bias into its search and is exact. From others more candidates are taken
    than asked for: a row that is missing scores no more than the last candidate, less the lowest
    bias. If that may still be among the best, more are taken, up to 2048 or k.
    Raises what search() does; VectorIndexError on a bias of another type, or too short.
    """
    if isinstance(index, FlatIndex):
        return index.search(queries, k, bias=bias, **settings)
    k = checked_count(k, "k")
    bias = as_bias(bias, 0)
    found = no_matches(len(queries), k)
    asked, width = np.arange(len(queries)), min(k, index.n) + _SPARE
    most = max(k, min(_AT_MOST, index.n))
    while len(asked) and index.n:
        width = max(k, min(width, most))
        near = index.search(queries[asked], width, enough=k, **settings)
        as_bias(bias, int(near.rows.max(initial=-1)) + 1)
        best = ranked_less_bias(near.scores, near.rows, bias, k)
        found.scores[asked], found.rows[asked] = best
        if width >= most:
            break
        kth = np.where(best.rows[:, -1] >= 0, best.scores[:, -1] - bias[best.rows[:, -1]], -np.inf)
        left = near.rows[:, -1] >= 0  # else all there was has been found
        asked = asked[left & (near.scores[:, -1] - bias.min() >= kth)]
        width *= _WIDER
    return found
