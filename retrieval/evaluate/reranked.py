"""What a second look at the best images is worth: text to image once more, as `search --rerank` ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from retrieval.collection import Collection
from retrieval.errors import RerankError
from retrieval.evaluate.compare import Difference, differences
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.index_losses import MOST_QUERIES
from retrieval.evaluate.scores import TEXT_TO_IMAGE, K, DirectionScores, Sampling, score
from retrieval.metrics import SCORE_BLOCK_BYTES, RelevantRanks, first_alike
from retrieval.query import Query
from retrieval.rank.rerank import Reranker, Stored, reranked

_IMAGES_AT_ONCE = 256

Progress = Callable[[str, int, int], None]  # (what, done, total)


@dataclass(frozen=True, eq=False)
class Reranked:
    """What became of one model's searches for words.

    by            what looked again; depth: at how many of the best
    directions    text to image, language after language; before: the same searches without a second look
    calibrated    whether these are calibrated
    left_out      captions that were not asked, as there are so many
    unreadable    images that could not be looked at again, and came last for that
    milliseconds  of a second look at images that had been looked at before, the median over all queries
    """

    by: str
    depth: int
    directions: list[DirectionScores]
    before: list[DirectionScores]
    calibrated: bool
    left_out: int
    unreadable: int
    milliseconds: float

    def to_json(self) -> dict[str, object]:
        return {"by": self.by, "depth": self.depth, "left_out": self.left_out, "unreadable": self.unreadable,
                "p50_ms": self.milliseconds, "results": [one.to_json() for one in self.directions]}

    def told(self, model: str) -> str:
        """Sentences on how it was measured."""
        taken = f"{self.milliseconds:.1f}" if self.milliseconds < 100 else f"{self.milliseconds:,.0f}"
        asked = sum(one.queries for one in self.directions)
        sampled = f" {asked:,} of the captions were asked, drawn at random." if self.left_out else ""
        unread = f" {self.unreadable:,} images could not be looked at, and came last for that." if self.unreadable else ""
        return (
            f"Searches of {model} are reranked by {self.by}: the best {self.depth} of each are looked at again, which "
            f"takes {taken} ms in the median once the images' part is kept. Images that are not among them keep their "
            f"rank.{sampled}{unread}"
        )

    def lift(self, model: str, sampling: Sampling) -> list[Difference]:
        """Of every metric, over the same queries."""
        reference = f"{model}, calibrated" if self.calibrated else model
        return differences(f"{model}, reranked", self.directions, reference, self.before, sampling)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Queries of one language.

    first     the scores of all that could be asked
    captions  (q,) of the task; ranks: before a second look; clusters: (q,)
    best      (q, depth) rows of the best images, best first; scores: theirs
    """

    first: DirectionScores
    captions: np.ndarray
    ranks: RelevantRanks
    clusters: np.ndarray
    best: np.ndarray
    scores: np.ndarray


def score_reranked(
    evaluation: Evaluation, collection: Collection, reranker: Reranker, *, ks: Sequence[int] = K,
    sampling: Sampling = Sampling(), most: int = MOST_QUERIES, progress: Progress = lambda what, done, total: None,
) -> Reranked:
    """Rank the right images of each caption after the reranker looked at the best again.

    evaluation  of the collection; where it is calibrated, calibrated searches are what a second look begins with
    most        captions that are asked in each language, drawn at random if there are more

    An image that was not among the best keeps its rank. Raises RerankError, also if no image can be read.
    """
    before = evaluation.calibrated or [one for one in evaluation.directions if one.direction == TEXT_TO_IMAGE]
    depth = min(reranker.depth, len(evaluation.images))
    parts = [_asked(evaluation, first, depth, most, sampling.seed) for first in before]
    stored = _stored(evaluation.task.ids, collection)
    readable = _readable(reranker, stored, np.unique(np.concatenate([part.best.ravel() for part in parts])), progress)
    total, seconds = sum(len(part.captions) for part in parts), []
    reranked_scores, first_scores = [], []
    for part in parts:
        ranks, relevance = part.ranks.ranks.copy(), part.ranks.relevance
        for number, (caption, best, scores) in enumerate(zip(part.captions, part.best, part.scores)):
            again = np.full(depth, np.nan, np.float32)
            there = np.flatnonzero(readable[best])
            query = Query(evaluation.task.captions[caption].text)
            began = perf_counter()
            again[there] = reranker.scores(query, [stored[one] for one in best[there]], scores[there])
            seconds.append(perf_counter() - began)
            own = slice(relevance.starts[number], relevance.starts[number + 1])
            ranks[own] = _ranks(relevance.rows[own], ranks[own], best[reranked(scores, again)])
            progress("Reranking", len(seconds), total)
        how = {"clusters": part.clusters, "documents": part.first.documents, "language": part.first.language,
               "ks": ks, "sampling": sampling}
        reranked_scores.append(score(TEXT_TO_IMAGE, RelevantRanks(relevance, ranks), **how))
        first_scores.append(score(TEXT_TO_IMAGE, part.ranks, **how))
    return Reranked(
        reranker.name, depth, reranked_scores, first_scores, bool(evaluation.calibrated),
        left_out=sum(one.queries for one in before) - total, unreadable=int((~readable).sum()),
        milliseconds=1000 * float(np.median(seconds)),
    )


def _asked(evaluation: Evaluation, first: DirectionScores, depth: int, most: int, seed: int) -> _Asked:
    """The queries of one language that have a right answer, and the best images of each."""
    queries = np.flatnonzero(first.ranks.answerable)
    if len(queries) > most:
        queries = np.sort(np.random.default_rng(seed).choice(queries, most, replace=False))
    captions = evaluation.task.captions_in(first.language)[queries]
    best, scores = np.empty((len(queries), depth), np.int64), np.empty((len(queries), depth), np.float32)
    for number, line in enumerate(_scores(evaluation, captions)):
        best[number] = _best(line, depth)
        scores[number] = line[best[number]]
    starts = first.ranks.relevance.starts
    entries = np.concatenate([np.arange(starts[one], starts[one + 1]) for one in queries])
    ranks = RelevantRanks(first.ranks.relevance.of(queries), first.ranks.ranks[entries])
    return _Asked(first, captions, ranks, first.clusters[queries], best, scores)


def _scores(evaluation: Evaluation, captions: np.ndarray) -> Iterator[np.ndarray]:
    """Of each caption with all images, (n,) float32, less what calibration takes; as `metrics.relevant_ranks` has them."""
    images, less = evaluation.images, evaluation.biases
    alike = first_alike(images)
    copies = np.flatnonzero(alike != np.arange(len(images)))
    block = max(1, SCORE_BLOCK_BYTES // (4 * len(images)))
    for start in range(0, len(captions), block):
        scores = evaluation.texts[captions[start : start + block]] @ images.T
        if less is not None:
            scores -= less
        scores[:, copies] = scores[:, alike[copies]]
        yield from scores


def _best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Positions of the highest scores, best first; of equal ones the earlier. (depth,) int64, depth at most n"""
    likely = np.flatnonzero(scores >= np.partition(scores, -depth)[-depth])
    return likely[np.argsort(-scores[likely], kind="stable")][:depth]


def _stored(ids: Sequence[str], collection: Collection) -> list[Stored | None]:
    """Where the images are by now; None of one that was dropped from the collection meanwhile."""
    rows = [row for _, row in collection.catalog.indexed()]
    found = {id: Stored(path, content) for id, path, content in collection.catalog.contents_of_rows(rows).values()}
    return [found.get(id) for id in ids]


def _readable(reranker: Reranker, stored: list[Stored | None], rows: np.ndarray, progress: Progress) -> np.ndarray:
    """Which of the images (n,) bool can be looked at again; each of these rows is, so that none is new to a query."""
    readable = np.ones(len(stored), bool)
    readable[[one is None for one in stored]] = False
    rows = rows[readable[rows]]
    for start in range(0, len(rows), _IMAGES_AT_ONCE):
        part = rows[start : start + _IMAGES_AT_ONCE]
        for row, known in zip(part, reranker.prepared([stored[row] for row in part])):
            stored[row], readable[row] = known or stored[row], known is not None
        progress("Images to look at again", start + len(part), len(rows))
    if not readable[rows].any():
        raise RerankError(
            f"None of the images can be looked at again by {reranker.name}: their files cannot be read any more."
        )
    return readable


def _ranks(relevant: np.ndarray, before: np.ndarray, order: np.ndarray) -> list[int]:
    """Ranks of relevant rows (m,) after the best were put in another order.

    before  (m,) their ranks; of what is not among the best they stay, and stay behind them whatever
            the last bit of a score did
    order   (depth,) rows, best first
    """
    places = dict(zip(order.tolist(), range(1, len(order) + 1)))
    return [places.get(row, max(rank, len(order) + 1)) for row, rank in zip(relevant.tolist(), before.tolist())]
