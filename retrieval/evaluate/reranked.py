"""What a second look at the best images is worth: text to image once more, as `search --rerank` ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from retrieval.collection import Collection
from retrieval.evaluate.compare import Difference, differences
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.scores import TEXT_TO_IMAGE, K, DirectionScores, Sampling, score
from retrieval.metrics import RelevantRanks
from retrieval.query import text_query
from retrieval.rank.rerank import Reranker, Stored, reranked

_BLOCK = 256  # queries scored at once


@dataclass(frozen=True, eq=False)
class Reranked:
    """What became of one model's searches for words.

    by            what looked again, as the user named it; depth: at how many of the best
    directions    text to image, language after language
    before        the same searches without a second look; calibrated: whether these are
    milliseconds  of a second look, the median over all queries
    """

    by: str
    depth: int
    directions: list[DirectionScores]
    before: list[DirectionScores]
    calibrated: bool
    milliseconds: float

    def to_json(self) -> dict[str, object]:
        return {"by": self.by, "depth": self.depth, "p50_ms": self.milliseconds,
                "results": [one.to_json() for one in self.directions]}

    def told(self, model: str) -> str:
        """A sentence on how it was measured."""
        return (
            f"Searches of {model} are reranked by {self.by}: the best {self.depth} of each are looked at again, which takes "
            f"{self.milliseconds:.3g} ms in the median. Images that are not among them keep their rank."
        )

    def lift(self, model: str, sampling: Sampling) -> list[Difference]:
        """Of every metric, over the same queries."""
        reference = f"{model}, calibrated" if self.calibrated else model
        return differences(f"{model}, reranked", self.directions, reference, self.before, sampling)


def score_reranked(
    evaluation: Evaluation, collection: Collection, reranker: Reranker, *, calibrated: bool = True,
    ks: Sequence[int] = K, sampling: Sampling = Sampling(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reranked:
    """Rank the right images of each caption after the reranker looked at the best again.

    evaluation  of the collection, calibrated or not as said here: calibrated searches are what a
                second look begins with where there are any

    An image that was not among the best keeps its rank. Raises RerankError.
    """
    task = evaluation.task
    rows = dict(collection.catalog.indexed())
    chosen = [rows[id] for id in task.ids]
    contents = collection.catalog.contents_of_rows(chosen)
    stored = [Stored(*contents[row][1:]) for row in chosen]  # n, in the task's order
    biases = collection.biases() if calibrated else None
    less = np.zeros(len(stored), np.float32) if biases is None else biases[np.array(chosen, np.int64)]
    before = evaluation.calibrated or [one for one in evaluation.directions if one.direction == TEXT_TO_IMAGE]
    total, done = sum(len(one.ranks) for one in before), 0
    seconds: list[float] = []
    directions = []
    for first in before:
        spoken = task.captions_in(first.language)
        ranks = first.ranks.ranks.copy()
        relevance = first.ranks.relevance
        for number, scores in enumerate(_scores(evaluation.texts[spoken], evaluation.images, less)):
            best = _best(scores, reranker.depth)
            query = text_query(task.captions[spoken[number]].text)
            began = perf_counter()
            again = reranker.scores(query, [stored[one] for one in best], scores[best])
            seconds.append(perf_counter() - began)
            own = slice(relevance.starts[number], relevance.starts[number + 1])
            ranks[own] = _ranks(relevance.rows[own], ranks[own], best[reranked(scores[best], again)])
            done += 1
            progress(done, total)
        directions.append(score(
            TEXT_TO_IMAGE, RelevantRanks(relevance, ranks), first.clusters, first.documents,
            language=first.language, ks=ks, sampling=sampling,
        ))
    return Reranked(reranker.name, reranker.depth, directions, before, biases is not None, 1000 * float(np.median(seconds)))


def _scores(texts: np.ndarray, images: np.ndarray, less: np.ndarray) -> Iterator[np.ndarray]:
    """Of each text with all images, less what calibration takes: (n,) float32."""
    for start in range(0, len(texts), _BLOCK):
        yield from texts[start : start + _BLOCK] @ images.T - less


def _best(scores: np.ndarray, depth: int) -> np.ndarray:
    """Positions of the highest scores, best first; of equal ones the earlier. (min(n, depth),) int64"""
    likely = np.arange(len(scores))
    if depth < len(scores):
        likely = np.flatnonzero(scores >= np.partition(scores, -depth)[-depth])
    return likely[np.argsort(-scores[likely], kind="stable")][:depth]


def _ranks(relevant: np.ndarray, before: np.ndarray, order: np.ndarray) -> list[int]:
    """Ranks of relevant rows (m,) after the best were put in another order.

    before  (m,) their ranks; of what is not among the best they stay, and stay behind them whatever
            the last bit of a score did
    order   (depth,) rows, best first
    """
    places = dict(zip(order.tolist(), range(1, len(order) + 1)))
    return [places.get(row, max(rank, len(order) + 1)) for row, rank in zip(relevant.tolist(), before.tolist())]
