"""How a search is answered: the index as it wants it, and hits of what was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Container, Mapping, Sequence

import numpy as np

from indexes import FlatIndex, Matches, RefinedIndex, VectorIndex, search_biased
from retrieval.catalog import Catalog
from retrieval.errors import QueryError
from retrieval.query import Query
from retrieval.rank.refinement import Candidates, refine, width
from retrieval.rank.relevance import RelevanceModel
from retrieval.rank.rerank import Stored
from retrieval.types import PRODUCT, Hit
from retrieval.vectors import VectorStore
from retrieval.wanted import AUTO, Refinement, Wanted

_WIDER = 4  # how many times as many candidates, where too few were left
_MOST_ON_GPU = 2048  # that FAISS gives at once


@dataclass(frozen=True, eq=False)
class Nearest:
    """An index, of which only some rows are allowed, and which is calibrated for texts.

    biases   (n,) float32 by vector row; None if nothing is calibrated
    allowed  (n,) bool by vector row; None for all
    live     what to allow where rows were found that are nobody's any more, likewise
    """

    index: FlatIndex | VectorIndex | RefinedIndex
    biases: np.ndarray | None
    allowed: np.ndarray | None
    live: Callable[[], np.ndarray]

    @property
    def n(self) -> int:
        """How many rows there are to find."""
        return self.index.n if self.allowed is None else min(self.index.n, int(self.allowed.sum()))

    def calibrated(self, query: Query, scores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, float]:
        """What a query's matches (n,) are ordered by, (n,), and what the cosine of any other row is at most."""
        if self.biases is None or not query.is_text:
            return scores, float(scores[-1])
        less = np.where(rows >= 0, scores - self.biases[rows], -np.inf)
        return less, float(less[-1] + self.biases.max())

    def search(self, queries: Sequence[Query], vectors: np.ndarray, k: int) -> Matches:
        """The k best rows of each query, with their cosines; texts by cosine less bias.

        vectors  (q, d) of the queries
        """
        texts = np.array([query.is_text for query in queries], bool)
        if self.biases is None or not texts.any():
            return self.index.search(vectors, k, allowed=self.allowed)
        if texts.all():
            return search_biased(self.index, vectors, k, self.biases, allowed=self.allowed)
        matches = self.index.search(vectors, k, allowed=self.allowed)
        biased = search_biased(self.index, vectors[texts], k, self.biases, allowed=self.allowed)
        for whole, part in zip(matches, biased):
            whole[texts] = part
        return matches

    def again(self, found: np.ndarray, owned: Container[int]) -> Nearest | None:
        """Where to search once more, as rows that took places among those found have no owner by now.

        The index is as it was when it was opened; others write meanwhile. None if all have one.
        """
        if self.allowed is not None or all(row < 0 or row in owned for row in found.ravel().tolist()):
            return None
        return replace(self, allowed=self.live())


def found_hits(
    nearest: Nearest, owners: Callable[[Sequence[int], Wanted], Mapping[int, Sequence[tuple]]],
    queries: Sequence[Query], vectors: np.ndarray, wanted: Wanted,
) -> list[list[Hit]]:
    """The hits of each query as the index ranks them.

    owners  whose the rows are: (id, path), and perhaps (caption,)
    """
    matches = nearest.search(queries, vectors, wanted.k)
    known = owners(matches.rows[matches.rows >= 0].tolist(), wanted)
    if again := nearest.again(matches.rows, known):
        return found_hits(again, owners, queries, vectors, wanted)
    answers = []
    for query, scores, rows in zip(queries, matches.scores.tolist(), matches.rows.tolist()):
        # Images with the same caption share a row.
        found = [(score, *owner) for score, row in zip(scores, rows) for owner in known.get(row, ())][: wanted.k]
        answers.append([Hit(query.shown, rank, *one) for rank, one in enumerate(found, 1)])
    return answers


def refined_hits(
    nearest: Nearest, store: VectorStore, catalog: Catalog, queries: Sequence[Query], vectors: np.ndarray,
    wanted: Wanted, relevance: RelevanceModel | None,
) -> list[list[Hit]]:
    """The hits of each query among images, refined as is wanted: up to k, fewer where some are left out.

    vectors    (q, d) float32 unit rows, one a query
    relevance  of the collection; None gives hits none

    Raises QueryError, RerankError, CollectionError.
    """
    k, how = wanted.k, wanted.refinement
    for query in queries:  # before the first of them takes its time
        _check(query, how, wanted.fusion)
    return [
        _hits(nearest, store, catalog, query, vector, k, how, relevance if _is_caption(query, wanted.fusion) else None)
        for query, vector in zip(queries, vectors)
    ]


def _check(query: Query, how: Refinement, fusion: str) -> None:
    """Raises QueryError for a query that cannot be refined so."""
    if how.min_score == AUTO and not query.is_text:
        raise QueryError(
            f"{query.shown} is not of words alone, and min-score auto is estimated for texts. Give a number: "
            "copies score about 0.95, unlike images below 0.6."
        )
    if how.min_score == AUTO and not _is_caption(query, fusion):
        raise QueryError(
            f"{query.shown} subtracts or multiplies, which makes scores lower than those of captions, with which "
            "min-score auto compares. Give a number: see what it finds without."
        )
    if how.rerank is not None and (query.terms or query.document is not None):
        raise QueryError(f"{query.shown} cannot be reranked: that takes a query of words, or of one image file.")


def _is_caption(query: Query, fusion: str) -> bool:
    """Whether its scores are of the kind that those of captions are."""
    product = (query.fusion or fusion) == PRODUCT
    return query.is_text and not (query.terms and (product or any(weight < 0 for weight, _ in query.terms)))


def _hits(
    nearest: Nearest, store: VectorStore, catalog: Catalog, query: Query, vector: np.ndarray, k: int,
    how: Refinement, relevance: RelevanceModel | None,
) -> list[Hit]:
    most = nearest.n if nearest.index.device == "cpu" else min(nearest.n, max(k, _MOST_ON_GPU))
    count = min(width(how, k), most)
    while True:
        candidates, owners = _candidates(nearest, store, catalog, query, vector, count)
        shown, more = refine(candidates, k, how, query, relevance)
        if not more or count == most:
            break
        count = min(_WIDER * count, most)
    return [
        Hit(query.shown, rank, float(candidates.scores[one.position]), *owners[one.position],
            relevance=one.relevance, rerank_score=one.rerank_score, duplicates=one.duplicates)
        for rank, one in enumerate(shown, 1)
    ]


def _candidates(
    nearest: Nearest, store: VectorStore, catalog: Catalog, query: Query, vector: np.ndarray, count: int
) -> tuple[Candidates, list[tuple[str, str]]]:
    """Images of the index, best first, and (id, path) of each."""
    scores, rows = (found[0] for found in nearest.search([query], vector[None], max(1, count)))  # (count,)
    calibrated, beyond = nearest.calibrated(query, scores, rows)
    contents = catalog.contents_of_rows(rows[rows >= 0].tolist())
    if again := nearest.again(rows, contents):
        return _candidates(again, store, catalog, query, vector, count)
    there = np.array([row in contents for row in rows.tolist()], bool)
    rows, scores = rows[there], scores[there]
    owners = [contents[row] for row in rows.tolist()]
    stored = [Stored(path, content) for _, path, content in owners]
    found = Candidates(rows, scores, calibrated[there], beyond, store.take, stored)
    return found, [(id, path) for id, path, _ in owners]
