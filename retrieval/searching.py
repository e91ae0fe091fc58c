"""Answers to queries that ask for more than the nearest: index, catalogue and `rank` together."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from indexes import FlatIndex, VectorIndex
from retrieval.catalog import Catalog
from retrieval.errors import QueryError
from retrieval.query import Query
from retrieval.rank.refinement import AUTO, Candidates, Refinement, refine
from retrieval.rank.relevance import RelevanceModel
from retrieval.rank.rerank import Stored
from retrieval.types import Hit
from retrieval.vectors import VectorStore

_WIDER = 4  # how many times as many candidates, where too few were left
_MOST_ON_GPU = 2048  # that FAISS gives at once


def refined_hits(
    index: VectorIndex | FlatIndex, store: VectorStore, catalog: Catalog, queries: Sequence[Query],
    vectors: np.ndarray, k: int, how: Refinement, relevance: RelevanceModel | None,
) -> list[list[Hit]]:
    """The hits of each query among images, as `how` wants them: up to k, fewer where it leaves some out.

    vectors    (q, d) float32 unit rows, one a query
    relevance  of the collection; None gives hits none

    Raises QueryError, RerankError, CollectionError.
    """
    return [
        _hits(index, store, catalog, query, vector, k, how, relevance if query.image is None else None)
        for query, vector in zip(queries, vectors)
    ]


def _hits(
    index: VectorIndex | FlatIndex, store: VectorStore, catalog: Catalog, query: Query, vector: np.ndarray,
    k: int, how: Refinement, relevance: RelevanceModel | None,
) -> list[Hit]:
    if how.min_score == AUTO and query.image is not None:
        raise QueryError(
            f"{query.shown} is an image, and min-score auto is estimated for texts. Give a number: "
            "copies score about 0.95, unlike images below 0.6."
        )
    most = index.n if index.device == "cpu" else min(index.n, max(k, _MOST_ON_GPU))
    width = min(how.width(k), most)
    while True:
        candidates, owners = _candidates(index, store, catalog, vector, width)
        shown, more = refine(candidates, k, how, query, relevance)
        if not more or width == most:
            break
        width = min(_WIDER * width, most)
    return [
        Hit(query.shown, rank, float(candidates.scores[one.position]), *owners[one.position],
            relevance=one.relevance, rerank_score=one.rerank_score, duplicates=one.duplicates)
        for rank, one in enumerate(shown, 1)
    ]


def _candidates(
    index: VectorIndex | FlatIndex, store: VectorStore, catalog: Catalog, vector: np.ndarray, width: int
) -> tuple[Candidates, list[tuple[str, str]]]:
    """Images of the index, best first, and (id, path) of each."""
    scores, rows = (found[0] for found in index.search(vector[None], width))  # (width,)
    contents = catalog.contents_of_rows(rows[rows >= 0].tolist())
    there = np.array([row in contents for row in rows.tolist()], bool)
    rows, scores = rows[there], scores[there]
    owners = [contents[row] for row in rows.tolist()]
    stored = [Stored(path, content) for _, path, content in owners]
    return Candidates(rows, scores, store.take, stored), [(id, path) for id, path, _ in owners]
