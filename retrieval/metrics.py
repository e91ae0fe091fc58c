"""Exact ranking metrics for cross-modal retrieval, computed block by block.

Three recalls go by three names: `hit_rate_at_k` (1 if any relevant document is in the top k; CLIP
papers print it as R@k), `recall_at_k` (|relevant in top k| / |relevant|), and the overlap of an
approximate index with exact search, which belongs to `indexes`.

Every metric is a fraction or a rank, never a percentage, and is a mean (or median) over the queries
that have a relevant document: a query without one has no right answer to be judged by. Where no
query has one, the metric is nan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

SCORE_BLOCK_BYTES = 256 * 2**20
NOTHING_RELEVANT = 0  # the "rank" of a query without relevant documents


def first_relevant_ranks(
    queries: np.ndarray, documents: np.ndarray, relevant: Sequence[ArrayLike], *, block: int | None = None
) -> np.ndarray:
    """Return the 1-based rank of each query's best-placed relevant document under exact search.

    queries    (q, d), used as float32
    documents  (n, d), used as float32
    relevant   q sequences of document rows; an empty one gives that query rank 0, "none"
    block      queries scored at once; None fits the scores in 256 MiB (one query at the least)

    Documents are ordered by inner product in float32, descending, and among equal scores by row,
    ascending: the tie rule of every search in this project, so a rank is the line on which a search
    would print the document. (Rules that favour or punish the relevant document on a tie report
    ranks no search returns: favouring it, an encoder mapping everything to one point scores 1.0.)

        rank = 1 + |{j : s_j > s_r}| + |{j < r : s_j = s_r}|,   r the best-placed relevant row

    Scores are equal when their bits are; the last bit of a float32 inner product depends on the
    shape of the matrix product, so near-ties may fall differently under another block size.

    Returns int64 (q,).
    Raises ValueError if shapes disagree, a relevant row is not in 0..n-1, or a score is not finite.
    """
    queries = np.asarray(queries, dtype=np.float32)  # (q, d)
    documents = np.asarray(documents, dtype=np.float32)  # (n, d)
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise ValueError(
            f"queries {queries.shape} and documents {documents.shape} must be (q, d) and (n, d) with the same d"
        )
    _require_one_each(relevant, len(queries))
    if block is None:
        block = max(1, SCORE_BLOCK_BYTES // (4 * max(1, len(documents))))
    elif block < 1:
        raise ValueError(f"block must be at least 1, not {block}")

    ranks = np.full(len(queries), NOTHING_RELEVANT, dtype=np.int64)  # (q,)
    for start in range(0, len(queries), block):
        # The relevant scores are read from this very product: one computed apart could differ in
        # its last bit, and the comparisons below would count it against itself.
        with np.errstate(invalid="ignore", over="ignore"):
            scores = queries[start : start + block] @ documents.T  # (b, n)
        for query, row_scores in enumerate(scores, start):  # (n,)
            if not np.isfinite(row_scores).all():
                # nan compares as false with everything, and would rank first
                raise ValueError(f"query {query} has nan or infinite scores; check its vector and the documents'")
            rows = _relevant_rows(relevant, query)
            if not rows.size:
                continue
            if rows[-1] >= len(documents):
                raise ValueError(f"query {query} has relevant row {rows[-1]}; there are {len(documents)} documents")
            best = rows[np.argmax(row_scores[rows])]  # argmax takes the first, hence the lowest row
            higher = np.count_nonzero(row_scores > row_scores[best])
            tied_before = np.count_nonzero(row_scores[:best] == row_scores[best])
            ranks[query] = 1 + higher + tied_before
    return ranks


def hit_rate_at_k(ranks: ArrayLike, k: int) -> float:
    """Return the fraction of queries with a relevant document among the first k; papers call it R@k.

        hit_rate@k = |{q : 1 <= rank_q <= k}| / |{q : rank_q >= 1}|

    ranks  (q,) from `first_relevant_ranks`; queries of rank 0 are left out
    k      results looked at, 1 or more

    Returns a fraction in [0, 1], or nan if every query is left out.
    Raises ValueError if k < 1.
    """
    _require_positive(k)
    return _mean(_answerable(ranks) <= k)


def recall_at_k(retrieved_rows: np.ndarray, relevant: Sequence[ArrayLike], k: int) -> float:
    """Return the mean fraction of a query's relevant documents found among its first k results.

        recall@k = mean over q of |relevant_q in top k| / |relevant_q|

    retrieved_rows  (q, m) document rows, best first, m >= k; -1 pads short lists
    relevant        q sequences of document rows; queries with an empty one are left out
    k               results looked at, 1..m

    Returns a fraction in [0, 1], or nan if every query is left out.
    Raises ValueError if k is not in 1..m, the two disagree on q, or a relevant row is negative.
    """
    retrieved_rows = np.asarray(retrieved_rows)  # (q, m)
    _require_positive(k)
    if retrieved_rows.ndim != 2 or retrieved_rows.shape[1] < k:
        raise ValueError(f"recall at {k} needs (q, m) rows with m >= {k}, not {retrieved_rows.shape}")
    _require_one_each(relevant, len(retrieved_rows))
    wanted = (_relevant_rows(relevant, query) for query in range(len(retrieved_rows)))
    return _mean([np.isin(rows, top).mean() for rows, top in zip(wanted, retrieved_rows[:, :k]) if rows.size])


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
    """Return the mean of 1 / rank over queries.

    ranks  (q,) from `first_relevant_ranks`; queries of rank 0 are left out

    Returns a fraction in (0, 1], or nan if every query is left out.
    """
    return _mean(1.0 / _answerable(ranks))


def median_rank(ranks: ArrayLike) -> float:
    """Return the median rank; with an even number of queries, the mean of the middle two.

    ranks  (q,) from `first_relevant_ranks`; queries of rank 0 are left out

    Returns a rank, 1 or more, or nan if every query is left out.
    """
    answerable = _answerable(ranks)
    return float(np.median(answerable)) if answerable.size else float("nan")


def _answerable(ranks: ArrayLike) -> np.ndarray:
    ranks = np.asarray(ranks)
    return ranks[ranks != NOTHING_RELEVANT]


def _mean(values: ArrayLike) -> float:
    values = np.asarray(values, dtype=np.float64)
    return float(values.mean()) if values.size else float("nan")


def _relevant_rows(relevant: Sequence[ArrayLike], query: int) -> np.ndarray:
    """Return one query's relevant rows as int64, ascending, each once."""
    rows = np.unique(relevant[query])
    if rows.size and rows.dtype.kind not in "iu":  # a boolean mask would pass for rows 0 and 1
        raise ValueError(f"relevant rows of query {query} must be integers, not {rows.dtype}")
    if rows.size and rows[0] < 0:  # -1 would equal the padding of a short list
        raise ValueError(f"query {query} has relevant row {rows[0]}; rows start at 0")
    return rows.astype(np.int64)


def _require_one_each(relevant: Sequence[ArrayLike], queries: int) -> None:
    if len(relevant) != queries:
        raise ValueError(f"{queries} queries need as many sequences of relevant rows, not {len(relevant)}")


def _require_positive(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
