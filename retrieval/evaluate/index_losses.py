"""Where recall is lost between the encoder and the user: in its codes, or on the way through the index.

    exact   every vector compared: what the encoder is worth
    codes   every vector compared, as the index stores it: less the loss of quantisation
    found   what the index returns: less the loss of searching only a part of it

Measured with text queries over the image index, the search that people do. Of very many captions a
sample is asked: through some indexes, searching everything costs far more than exact search. Which of
several copies of a picture an index returns is chance; it is neither lost nor won by that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from indexes import IndexMeasurement, IndexSpec, exact_search, measure_index
from retrieval.bootstrap import Estimate, mean_intervals
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.compare import paired_difference
from retrieval.evaluate.scores import K, Sampling
from retrieval.metrics import Relevance, first_alike, hit_rate, ranks_in_results

MOST_QUERIES = 5000


@dataclass(frozen=True, eq=False)
class IndexScores:
    """One index at one setting. exact, codes, found: R@k by k, as fractions.

    quantisation_loss  exact - codes; search_loss: codes - found; both paired over queries
    """

    model: str
    measured: IndexMeasurement
    exact: dict[int, Estimate]
    codes: dict[int, Estimate]
    found: dict[int, Estimate]
    quantisation_loss: dict[int, Estimate]
    search_loss: dict[int, Estimate]

    @property
    def setting(self) -> str:
        """"nprobe=8", or nothing for an index without a search setting."""
        named = (("nprobe", self.measured.nprobe), ("efSearch", self.measured.ef_search))
        return ", ".join(f"{name}={value}" for name, value in named if value is not None)

    def to_json(self) -> dict[str, object]:
        one, latency = self.measured, self.measured.latency

        def by_k(estimates: dict[int, Estimate]) -> dict[str, list[float]]:
            return {f"R@{k}": estimate.to_json() for k, estimate in estimates.items()}

        return {
            "model": self.model, "index": one.factory, "nprobe": one.nprobe, "ef_search": one.ef_search,
            "exact": by_k(self.exact), "codes": by_k(self.codes), "found": by_k(self.found),
            "quantisation_loss": by_k(self.quantisation_loss), "search_loss": by_k(self.search_loss),
            f"ann_recall@{one.k}": round(one.ann_recall, 6),
            "p50_ms": latency.p50, "p95_ms": latency.p95, "p99_ms": latency.p99,
            "queries_per_second": latency.queries_per_second, "threads": latency.threads,
            "bytes_per_vector": one.bytes_per_vector, "build_seconds": one.build_seconds,
            "vectors": one.n, "dim": one.dim, "device": one.device,
        }


def index_scores(
    evaluation: Evaluation,
    specs: Sequence[IndexSpec],
    *,
    device: str = "auto",
    ks: Sequence[int] = K,
    sampling: Sampling = Sampling(),
    on_index: Callable[[str], None] = lambda factory: None,
) -> list[IndexScores]:
    """Build each index over the evaluation's images, and measure it at several search settings.

    At most MOST_QUERIES captions are asked, drawn by the sampling's seed.

    Raises SpecError if an index cannot be built over these images.
    """
    k = min(max(ks), len(evaluation.images))
    task = evaluation.task
    asked = np.arange(len(task.captions))
    if len(asked) > MOST_QUERIES:
        asked = np.sort(np.random.default_rng(sampling.seed).choice(asked, MOST_QUERIES, replace=False))
    queries, clusters, relevance = evaluation.texts[asked], task.images[asked], task.text_to_image.of(asked)
    exact = exact_search(evaluation.images, queries, k)
    copies = _copies(evaluation.images)
    scores = []
    for spec in specs:
        on_index(spec.factory)
        measured = measure_index(evaluation.images, spec, queries, exact, k, device=device)
        scores += [
            _scored(evaluation.model, one, exact.rows, copies, relevance, clusters, ks, sampling) for one in measured
        ]
    return scores


def _scored(
    model: str,
    measured: IndexMeasurement,
    exact_rows: np.ndarray,
    copies: Mapping[int, list[int]],
    relevance: Relevance,
    clusters: np.ndarray,
    ks: Sequence[int],
    sampling: Sampling,
) -> IndexScores:
    chances = {"resamples": sampling.resamples, "seed": sampling.seed}
    exact, codes, found = (
        ranks_in_results(_earlier_copies_first(rows, copies), relevance)
        for rows in (exact_rows, measured.exhaustive_rows, measured.rows)
    )

    def rate(ranks, k: int) -> Estimate:
        values = hit_rate(ranks, k)
        return Estimate(float(np.nanmean(values)), *map(float, mean_intervals(values, clusters=clusters, **chances)))

    def lost(before, after, k: int) -> Estimate:
        return paired_difference(hit_rate(before, k), hit_rate(after, k), clusters, sampling)

    return IndexScores(
        model, measured,
        exact={k: rate(exact, k) for k in ks},
        codes={k: rate(codes, k) for k in ks},
        found={k: rate(found, k) for k in ks},
        quantisation_loss={k: lost(exact, codes, k) for k in ks},
        search_loss={k: lost(codes, found, k) for k in ks},
    )


def _copies(vectors: np.ndarray) -> dict[int, list[int]]:
    """Row -> all rows with the same vector, ascending, of rows that are not alone with theirs."""
    alike = defaultdict(list)
    for row, first in enumerate(first_alike(vectors).tolist()):
        alike[first].append(row)
    return {row: rows for rows in alike.values() if len(rows) > 1 for row in rows}


def _earlier_copies_first(rows: np.ndarray, copies: Mapping[int, list[int]]) -> np.ndarray:
    """Results (q, k) where the first copy returned is the earliest there is, as in exact search; the second the next."""
    rows, met = rows.copy(), Counter()
    for query, column in np.argwhere(np.isin(rows, list(copies))).tolist():
        alike = copies[int(rows[query, column])]
        place = met[query, alike[0]]
        if place < len(alike):  # an index that returns a row twice adds nothing
            rows[query, column] = alike[place]
        met[query, alike[0]] += 1
    return rows
