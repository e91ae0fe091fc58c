"""Ranking metrics for cross-modal retrieval: exact ranks block by block, then values per query.

The ranks of the relevant documents are all that any metric here needs: `relevant_ranks` finds them
under exact search, `ranks_in_results` in what an index returned. Every metric is one value per
query, a fraction or a rank and never a percentage, and nan for a query without a relevant document,
which has no right answer to be judged by. Means over queries are `numpy.nanmean` of these.

Three recalls go by three names: `hit_rate` (1 if any relevant document is in the top k; CLIP papers
print its mean as R@k), `recall` (|relevant in top k| / |relevant|), and the overlap of an
approximate index with exact search, which belongs to `indexes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SCORE_BLOCK_BYTES = 64 * 2**20
SORTED_FROM = 48  # relevant documents of one query from which sorting beats counting
UNRANKED = 0  # the "rank" of a document that was not retrieved, and of no document at all


@dataclass(frozen=True, eq=False)
class Relevance:
    """The documents that are right for each query, and how right.

    starts  (q + 1,) int64; query i owns the entries starts[i] to starts[i + 1]
    rows    (m,) int64 document rows, ascending within a query, each once
    grades  (m,) float32, above 0; 1 where relevance is a matter of yes or no
    """

    starts: np.ndarray
    rows: np.ndarray
    grades: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> np.ndarray:
        """Relevant documents of each query, (q,)."""
        return np.diff(self.starts)

    @property
    def queries(self) -> np.ndarray:
        """The query of each entry, (m,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def of(self, queries: np.ndarray) -> Relevance:
        """Of these queries alone, (p,) integers, numbered anew in this order."""
        counts = self.counts[queries]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        entries = np.arange(starts[-1]) + np.repeat(self.starts[queries] - starts[:-1], counts)
        return Relevance(starts, self.rows[entries], self.grades[entries])

    @classmethod
    def from_pairs(
        cls, queries: ArrayLike, rows: ArrayLike, grades: ArrayLike | None = None, *, n_queries: int
    ) -> Relevance:
        """From (query, row, grade) entries in any order; of equal pairs the highest grade stays.

        A grade of 0 or less is a judgement of "not relevant" and is left out.
        Raises ValueError if a query or row is out of range, not an integer, or a grade is nan.
        """
        queries, rows = _integers(queries, "queries"), _integers(rows, "relevant rows")
        grades = np.ones(len(rows), np.float32) if grades is None else np.asarray(grades, np.float32)
        if not len(queries) == len(rows) == len(grades):
            raise ValueError(f"{len(queries)} queries, {len(rows)} rows and {len(grades)} grades must be as many")
        if queries.size and not 0 <= queries.min() <= queries.max() < n_queries:
            raise ValueError(f"queries of relevant pairs must be in 0..{n_queries - 1}")
        if rows.size and rows.min() < 0:  # -1 would equal the padding of a short list
            raise ValueError(f"relevant row {rows.min()}: rows start at 0")
        if np.isnan(grades).any():
            raise ValueError("a grade is nan")
        order = np.lexsort((-grades, rows, queries))
        queries, rows, grades = queries[order], rows[order], grades[order]
        repeated = np.zeros(len(rows), bool)
        repeated[1:] = (queries[1:] == queries[:-1]) & (rows[1:] == rows[:-1])
        kept = ~repeated & (grades > 0)
        counts = np.bincount(queries[kept], minlength=n_queries)
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return cls(starts, rows[kept], grades[kept])

    @classmethod
    def from_lists(cls, rows: Sequence[ArrayLike]) -> Relevance:
        """From one sequence of relevant rows per query. Raises ValueError as `from_pairs` does."""
        parts = [_integers(one, f"relevant rows of query {query}") for query, one in enumerate(rows)]
        queries = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return cls.from_pairs(queries, np.concatenate([*parts, np.empty(0, np.int64)]), n_queries=len(parts))


@dataclass(frozen=True, eq=False)
class RelevantRanks:
    """Where the relevant documents of each query came: ranks (m,) int64 from 1, UNRANKED if they did not."""

    relevance: Relevance
    ranks: np.ndarray

    def __len__(self) -> int:
        return len(self.relevance)

    @property
    def answerable(self) -> np.ndarray:
        """(q,) bool: queries with a relevant document."""
        return self.relevance.counts > 0

    @property
    def first(self) -> np.ndarray:
        """(q,) int64: the rank of the best-placed relevant document, UNRANKED if none was retrieved."""
        best = np.full(len(self), np.iinfo(np.int64).max)
        found = self.ranks != UNRANKED
        np.minimum.at(best, self.relevance.queries[found], self.ranks[found])
        return np.where(best == np.iinfo(np.int64).max, UNRANKED, best)


def relevant_ranks(
    queries: np.ndarray, documents: np.ndarray, relevance: Relevance, *, block: int | None = None
) -> RelevantRanks:
    """Rank every relevant document of every query under exact search, never holding all scores.

    queries    (q, d), used as float32
    documents  (n, d), used as float32
    relevance  for q queries, rows below n
    block      queries scored at once; None fits the scores in 64 MiB (one query at the least)

    Documents are ordered by inner product in float32, descending, and among equal scores by row,
    ascending: the tie rule of every search in this project, so a rank is the line on which a search
    would print the document. (Rules that favour or punish the relevant document on a tie report
    ranks no search returns: favouring it, an encoder mapping everything to one point scores 1.0.)

        rank_r = 1 + |{j : s_j > s_r}| + |{j < r : s_j = s_r}|

    Scores are equal when their bits are, and those of equal documents always are. The last bit of
    a float32 inner product depends on the shape of the matrix product, so near-ties of documents
    that differ may fall differently under another block size.

    Raises ValueError if shapes disagree, a relevant row is not below n, or a score is not finite.
    """
    queries = np.asarray(queries, dtype=np.float32)  # (q, d)
    documents = np.asarray(documents, dtype=np.float32)  # (n, d)
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise ValueError(
            f"queries {queries.shape} and documents {documents.shape} must be (q, d) and (n, d) with the same d"
        )
    if len(relevance) != len(queries):
        raise ValueError(f"{len(queries)} queries, but relevance for {len(relevance)}")
    if relevance.rows.size and relevance.rows.max() >= len(documents):
        raise ValueError(f"relevant row {relevance.rows.max()}; there are {len(documents)} documents")
    if block is None:
        block = max(1, SCORE_BLOCK_BYTES // (4 * max(1, len(documents))))
    elif block < 1:
        raise ValueError(f"block must be at least 1, not {block}")

    ranks = np.empty(len(relevance.rows), np.int64)  # (m,)
    first = first_alike(documents)
    copies = np.flatnonzero(first != np.arange(len(documents)))
    for start in range(0, len(queries), block):
        # The relevant scores are read from this very product: one computed apart could differ in
        # its last bit, and the comparisons below would count it against itself.
        with np.errstate(invalid="ignore", over="ignore"):
            scores = queries[start : start + block] @ documents.T  # (b, n)
        finite = np.isfinite(scores).all(axis=1)
        if not finite.all():
            # nan compares as false with everything, and would rank first
            query = start + int(np.argmin(finite))
            raise ValueError(f"query {query} has nan or infinite scores; check its vector and the documents'")
        # At the edges of a product the last bit may differ between columns that are the same.
        scores[:, copies] = scores[:, first[copies]]
        for query, row_scores in enumerate(scores, start):  # (n,)
            own = slice(relevance.starts[query], relevance.starts[query + 1])
            ranks[own] = _ranks_of(relevance.rows[own], row_scores)
    return RelevantRanks(relevance, ranks)


def ranks_in_results(rows: np.ndarray, relevance: Relevance) -> RelevantRanks:
    """Rank relevant documents within what a search returned; UNRANKED if it did not return them.

    rows  (q, m) int64 document rows, best first; -1 pads short lists

    Metrics at k of the result are right for k up to m.
    Raises ValueError if the two disagree on q.
    """
    rows = np.asarray(rows)
    if rows.ndim != 2 or len(rows) != len(relevance):
        raise ValueError(f"results {rows.shape} must be (q, m) with q = {len(relevance)}")
    ranks = np.full(len(relevance.rows), UNRANKED, np.int64)
    if not relevance.rows.size or not rows.size:
        return RelevantRanks(relevance, ranks)
    width = int(max(rows.max(), relevance.rows.max())) + 1
    wanted = relevance.queries * width + relevance.rows  # (m,) ascending
    query, column = np.nonzero(rows >= 0)
    found = query * width + rows[query, column]
    place = np.minimum(np.searchsorted(wanted, found), len(wanted) - 1)
    hit = wanted[place] == found
    # Backwards, so that of a row returned twice the better place is written last.
    ranks[place[hit][::-1]] = column[hit][::-1] + 1
    return RelevantRanks(relevance, ranks)


def first_alike(vectors: np.ndarray) -> np.ndarray:
    """The first row with the same vector, which is a row's own where none before it has: int64 (n,)."""
    seen: dict[bytes, int] = {}
    digests = (hashlib.blake2b(vector.tobytes(), digest_size=16).digest() for vector in vectors)
    return np.fromiter((seen.setdefault(digest, row) for row, digest in enumerate(digests)), np.int64, len(vectors))


def hit_rate(ranks: RelevantRanks, k: int) -> np.ndarray:
    """1 if a relevant document is among the first k, else 0; its mean is the papers' R@k. (q,)"""
    return _where_answerable(ranks, _found(ranks, k) > 0)


def recall(ranks: RelevantRanks, k: int) -> np.ndarray:
    """|relevant in top k| / |relevant|. (q,)"""
    return _where_answerable(ranks, _found(ranks, k) / np.maximum(ranks.relevance.counts, 1))


def precision(ranks: RelevantRanks, k: int) -> np.ndarray:
    """|relevant in top k| / k, also where there are fewer than k documents. (q,)"""
    return _where_answerable(ranks, _found(ranks, k) / k)


def f1(ranks: RelevantRanks, k: int) -> np.ndarray:
    """Harmonic mean of precision and recall: 2 |relevant in top k| / (k + |relevant|). (q,)"""
    return _where_answerable(ranks, 2 * _found(ranks, k) / (k + ranks.relevance.counts))


def reciprocal_rank(ranks: RelevantRanks) -> np.ndarray:
    """1 / rank of the best-placed relevant document, 0 if none was retrieved. (q,)"""
    first = ranks.first
    return _where_answerable(ranks, np.where(first == UNRANKED, 0.0, 1.0 / np.maximum(first, 1)))


def average_precision(ranks: RelevantRanks) -> np.ndarray:
    """Mean over relevant documents of the precision at their rank; 0 for those not retrieved. (q,)

        AP = 1/|relevant| * sum over the i-th best-placed relevant document of i / rank_i
    """
    relevance = ranks.relevance
    queries, placed = _by_rank(ranks)  # of the retrieved ones
    order = np.arange(len(queries)) - np.searchsorted(queries, queries)  # 0, 1, ... within a query
    total = np.bincount(queries, weights=(order + 1) / placed, minlength=len(ranks))
    return _where_answerable(ranks, total / np.maximum(relevance.counts, 1))


def ndcg(ranks: RelevantRanks, k: int) -> np.ndarray:
    """Discounted grades of the first k over those of the best possible order. (q,)

        DCG@k = sum over ranks r <= k of grade_r / log2(r + 1)

    The gain is the grade itself, as in trec_eval (others take 2 ** grade - 1).
    """
    _require_positive(k)
    relevance = ranks.relevance
    within = (ranks.ranks != UNRANKED) & (ranks.ranks <= k)
    gained = _discounted(relevance.queries[within], relevance.grades[within], ranks.ranks[within], len(ranks))
    order = np.lexsort((-relevance.grades, relevance.queries))
    queries = relevance.queries[order]
    ideal_ranks = np.arange(len(queries)) - relevance.starts[queries] + 1
    best = ideal_ranks <= k
    ideal = _discounted(queries[best], relevance.grades[order][best], ideal_ranks[best], len(ranks))
    return _where_answerable(ranks, gained / np.where(ideal > 0, ideal, 1))


def first_rank(ranks: RelevantRanks) -> np.ndarray:
    """Rank of the best-placed relevant document; inf if it was not retrieved. (q,)"""
    first = ranks.first
    return _where_answerable(ranks, np.where(first == UNRANKED, np.inf, first))


def _ranks_of(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Ranks of documents `rows` (r,) where documents have these scores (n,)."""
    if len(rows) >= SORTED_FROM:
        place = np.empty(len(scores), np.int64)
        place[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
        return place[rows]
    ranks = np.empty(len(rows), np.int64)
    for at, row in enumerate(rows):
        higher = np.count_nonzero(scores > scores[row])
        ranks[at] = 1 + higher + np.count_nonzero(scores[:row] == scores[row])
    return ranks


def _found(ranks: RelevantRanks, k: int) -> np.ndarray:
    """|relevant in top k| of each query, (q,)."""
    _require_positive(k)
    within = (ranks.ranks != UNRANKED) & (ranks.ranks <= k)
    return np.bincount(ranks.relevance.queries[within], minlength=len(ranks))


def _by_rank(ranks: RelevantRanks) -> tuple[np.ndarray, np.ndarray]:
    """Queries and ranks of the retrieved relevant documents, by query and then by rank."""
    queries = ranks.relevance.queries
    retrieved = ranks.ranks != UNRANKED
    queries, placed = queries[retrieved], ranks.ranks[retrieved]
    order = np.lexsort((placed, queries))
    return queries[order], placed[order]


def _discounted(queries: np.ndarray, grades: np.ndarray, ranks: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(queries, weights=grades / np.log2(ranks + 1), minlength=n)


def _where_answerable(ranks: RelevantRanks, values: np.ndarray) -> np.ndarray:
    return np.where(ranks.answerable, values, np.nan)


def _integers(values: ArrayLike, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.size and values.dtype.kind not in "iu":  # a boolean mask would pass for rows 0 and 1
        raise ValueError(f"{what} must be integers, not {values.dtype}")
    return values.astype(np.int64).ravel()


def _require_positive(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
