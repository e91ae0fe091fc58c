"""Which queries fail: what was asked, what came, and what should have come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexes import exact_search
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.scores import TEXT_TO_IMAGE, DirectionScores

RESULTS_SHOWN = 5
RIGHT_ONES_SHOWN = 5


@dataclass(frozen=True)
class Answer:
    """A document at its rank: an image (id and path), or a caption (text; id is its image's)."""

    rank: int
    score: float
    right: bool
    id: str
    path: str
    text: str


@dataclass(frozen=True)
class Failure:
    """A query whose best right answer came late.

    id, path  the image that asks, or the image of the caption that asks; text: the caption, or ""
    came    the first results; should: the right answers, best-placed first
    """

    direction: str
    language: str
    rank: int
    id: str
    path: str
    text: str
    came: list[Answer]
    should: list[Answer]


def worst_failures(evaluation: Evaluation, paths: dict[str, str], most: int) -> list[Failure]:
    """The `most` queries of each direction and language with the worst ranks, worst first.

    paths  image id -> path of the file

    A query fails if what comes first is wrong. Queries of equal rank come in the task's order.
    """
    return [
        failure
        for scores in evaluation.directions
        for failure in _of_direction(evaluation, scores, paths, most)
    ]


def _of_direction(
    evaluation: Evaluation, scores: DirectionScores, paths: dict[str, str], most: int
) -> list[Failure]:
    task = evaluation.task
    captions = task.captions_in(scores.language)
    images = np.arange(len(task.ids))
    by_text = scores.direction == TEXT_TO_IMAGE
    first = scores.ranks.first
    failed = np.flatnonzero(scores.ranks.answerable & (first != 1))
    failed = failed[np.argsort(-first[failed], kind="stable")][:most]
    if not len(failed):
        return []
    documents, vectors = (images, evaluation.images) if by_text else (captions, evaluation.texts[captions])
    # The query of each line: a caption of this language, or an image that has captions in it.
    asked = captions if by_text else scores.clusters
    asking = (evaluation.texts if by_text else evaluation.images)[asked[failed]]  # (f, d)
    top = exact_search(vectors, asking, min(RESULTS_SHOWN, len(documents)))

    def named(is_image: bool, place: int) -> dict[str, str]:
        if is_image:
            return {"id": task.ids[place], "path": paths.get(task.ids[place], ""), "text": ""}
        owner = task.ids[task.images[place]]
        return {"id": owner, "path": paths.get(owner, ""), "text": task.captions[place].text}

    failures = []
    relevance, ranks = scores.ranks.relevance, scores.ranks.ranks
    for at, query in enumerate(failed):
        own = slice(relevance.starts[query], relevance.starts[query + 1])
        right = dict(zip(relevance.rows[own].tolist(), ranks[own].tolist()))
        best = sorted(right.items(), key=lambda entry: entry[1])[:RIGHT_ONES_SHOWN]
        came = [
            Answer(rank, float(score), row in right, **named(by_text, documents[row]))
            for rank, (row, score) in enumerate(zip(top.rows[at].tolist(), top.scores[at]), 1)
        ]
        should = [
            Answer(rank, float(asking[at] @ vectors[row]), True, **named(by_text, documents[row]))
            for row, rank in best
        ]
        query_name = named(not by_text, int(asked[query]))
        failures.append(Failure(scores.direction, scores.language, int(first[query]), **query_name,
                                came=came, should=should))
    return failures
