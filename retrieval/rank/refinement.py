"""From what an index finds to what is shown: rerank, leave out, collapse, spread, cut to k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from retrieval.query import Query
from retrieval.rank.diversity import candidates_for, diverse_order
from retrieval.rank.duplicates import collapse
from retrieval.rank.relevance import RelevanceModel
from retrieval.rank.rerank import Stored, reranked
from retrieval.wanted import AUTO, Refinement

_COUNTED = 1024  # candidates among which the copies of what is shown are counted, if not more are needed
AUTO_RELEVANCE = 0.5  # what is likelier meant than not


def width(how: Refinement, k: int) -> int:
    """How many candidates to begin with, to be left with k; more are fetched if that was too few."""
    widths = [k]
    if how.rerank is not None:
        widths.append(how.rerank.depth)
    if how.diverse is not None:
        widths.append(candidates_for(k))
    if how.dedup is not None:
        widths.append(2 * max(widths))
    return max(widths)


@dataclass(frozen=True)
class Candidates:
    """Images that an index found for one query, best first.

    rows        (n,) int64; scores (n,) float32
    calibrated  (n,) float32 descending: scores less what calibration takes, by which they are ordered
    beyond      what the score of an image that is not among them is at most
    vectors     rows -> (n, d) float32 unit rows
    stored      n images as the reranker takes them, content hashes included
    """

    rows: np.ndarray
    scores: np.ndarray
    calibrated: np.ndarray
    beyond: float
    vectors: Callable[[np.ndarray], np.ndarray]
    stored: list[Stored]


@dataclass(frozen=True)
class Refined:
    """One image that is shown. position: among the candidates; the others None where not asked for."""

    position: int
    relevance: float | None = None
    rerank_score: float | None = None
    duplicates: int | None = None


def refine(
    candidates: Candidates, k: int, how: Refinement, query: Query | None, relevance: RelevanceModel | None
) -> tuple[list[Refined], bool]:
    """The k that are shown, best first, and whether more candidates might change that.

    query      needed to rerank
    relevance  needed for AUTO; where it is there every hit has one
    """
    n = len(candidates.rows)
    order = np.arange(n)
    again = np.full(n, np.nan, np.float32)
    if how.rerank is not None and n:
        depth = min(how.rerank.depth, n)
        again[:depth] = how.rerank.scores(query, candidates.stored[:depth], candidates.calibrated[:depth])
        order = reranked(candidates.scores, again[:depth])
    vectors = None
    if how.dedup is not None or how.diverse is not None:
        vectors = candidates.vectors(candidates.rows)  # (n, d)
    likely = None if relevance is None else relevance.of(candidates.scores)  # (n,)
    order = order[_good_enough(candidates.scores, how.min_score, relevance)[order]]
    counts: dict[int, int] | None = None
    if how.dedup is not None:
        kept = collapse(vectors[order], [candidates.stored[one].content for one in order], how.dedup)
        counts = {int(order[one.position]): one.duplicates for one in kept}
        order = order[[one.position for one in kept]].astype(np.int64)
    beyond = np.array([candidates.beyond], np.float32)
    more = len(order) < k and bool(_good_enough(beyond, how.min_score, relevance)[0])
    if how.diverse is not None:
        leading = order[: candidates_for(k)]
        by = candidates.calibrated if how.rerank is None else _ranks_as_scores(order, n)
        order = leading[diverse_order(by[leading], vectors[leading], k, how.diverse)]
    if how.dedup is not None and how.rerank is None and n < _COUNTED:  # a look at all of them again costs too much
        more |= _ends_in_a_copy(candidates, vectors, order[:k], how.dedup)
    return [
        Refined(
            int(one), None if likely is None else float(likely[one]),
            None if np.isnan(again[one]) else float(again[one]), None if counts is None else counts[int(one)],
        )
        for one in order[:k]
    ], more


def _ends_in_a_copy(candidates: Candidates, vectors: np.ndarray, shown: np.ndarray, threshold: float) -> bool:
    """Whether the last candidate is the picture of one that is shown: there may be more of these."""
    last = len(candidates.rows) - 1
    if not len(shown) or last in shown:
        return False
    content = candidates.stored[last].content
    same = content is not None and any(candidates.stored[one].content == content for one in shown)
    return same or bool((vectors[shown] @ vectors[last] >= threshold).any())


def _good_enough(scores: np.ndarray, least: float | str | None, relevance: RelevanceModel | None) -> np.ndarray:
    if least is None:
        return np.ones(len(scores), bool)
    return relevance.of(scores) >= AUTO_RELEVANCE if least == AUTO else scores >= least


def _ranks_as_scores(order: np.ndarray, n: int) -> np.ndarray:
    """After reranking two kinds of score would be mixed; places are of one kind."""
    scores = np.zeros(n)
    scores[order] = -np.arange(len(order))
    return scores
