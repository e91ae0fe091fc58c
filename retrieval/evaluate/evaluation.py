"""How well one encoder retrieves with captioned images, in both directions and every language, by exact ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.bootstrap import Estimate
from retrieval.collection import Collection
from retrieval.corpus.captions import read_captions
from retrieval.evaluate.scores import IMAGE_TO_TEXT, TEXT_TO_IMAGE, DirectionScores, K, Sampling, r_sum, score
from retrieval.evaluate.task import Task, make_task
from retrieval.metrics import relevant_ranks
from retrieval.types import Encoder

TEXT_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well one encoder retrieves on one task, index aside.

    model       as the user named it; encoder: what that turned out to be
    directions  text to image and image to text, language after language
    calibrated  text to image once more, as a calibrated search ranks; empty where searches are not
    r_sums      R-sum of each language, in percent
    images      (n, d) vectors of the task's ids; texts: (c, d) vectors of its captions
    biases      (n,) what calibration takes from the scores of each image; None where there is none
    """

    model: str
    encoder: str
    task: Task
    directions: list[DirectionScores]
    r_sums: dict[str, Estimate]
    images: np.ndarray = field(repr=False)
    texts: np.ndarray = field(repr=False)
    calibrated: list[DirectionScores] = field(default_factory=list)
    biases: np.ndarray | None = field(default=None, repr=False)

    def direction(self, name: str, language: str | None = None) -> DirectionScores:
        """Raises KeyError if there is none."""
        for one in self.directions:
            if one.direction == name and language in (None, one.language):
                return one
        raise KeyError((name, language))

    @property
    def text_to_image(self) -> DirectionScores:
        return self.direction(TEXT_TO_IMAGE)

    @property
    def image_to_text(self) -> DirectionScores:
        return self.direction(IMAGE_TO_TEXT)

    def to_json(self) -> dict[str, Any]:
        problems = {what: {"count": count, "names": names}
                    for what, count, names in self.task.problems.described()}
        return {
            "model": self.model, "encoder": self.encoder,
            "images": len(self.task.ids), "captions": len(self.task.captions),
            "rules": list(self.task.rules), "problems": problems,
            "results": [one.to_json() for one in self.directions],
            "calibrated": [one.to_json() for one in self.calibrated],
            "R-sum": {language: one.to_json() for language, one in self.r_sums.items()},
        }


def evaluate(
    collection: Collection,
    captions: Path,
    *,
    split: str | None = None,
    encoder: Encoder | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """`evaluate_task` for a captions file. Raises CaptionsError, EncoderError."""
    task = make_task(read_captions(captions, split=split), [id for id, _ in collection.catalog.indexed()])
    return evaluate_task(collection, task, encoder=encoder, progress=progress)


def evaluate_task(
    collection: Collection,
    task: Task,
    *,
    model: str | None = None,
    encoder: Encoder | None = None,
    ks: Sequence[int] = K,
    sampling: Sampling = Sampling(),
    calibrated: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Rank every right image for each caption, and every right caption for each image.

    task        over the ids of the collection's catalogue, or some of them
    calibrated  measure also what searches for words give in a collection that is calibrated

    A caption's query has one right answer, its image, unless the task says otherwise. An image's
    query is a hit if any of its captions is among the top k (Karpathy & Fei-Fei 2015). Languages
    are asked one by one: text queries of one against all images, image queries against its captions.
    Ranks are exact: see `retrieval.metrics.relevant_ranks`, also for ties.

    Raises EncoderError, and KeyError if an id of the task is not in the collection.
    """
    encoder = encoder or collection.load_encoder()
    texts = _embed([caption.text for caption in task.captions], encoder, progress)  # (c, d)
    rows = dict(collection.catalog.indexed())
    chosen = np.array([rows[id] for id in task.ids], np.int64)  # (n,)
    images = collection.vectors.take(chosen)  # (n, d)
    biases = collection.biases() if calibrated else None
    biases = None if biases is None else biases[chosen]  # (n,)
    directions, r_sums, by_calibration = [], {}, []
    for language in task.languages:
        part, spoken = task.in_language(language)
        if not part.text_to_image.rows.size:  # judgements that leave a language out
            continue
        in_language = texts[spoken] if len(spoken) < len(texts) else texts
        pair = score_directions(part, in_language, images, language=language, ks=ks, sampling=sampling)
        directions += pair
        if biases is not None:
            by_calibration.append(score_calibrated(
                part, in_language, images, biases, language=language, ks=ks, sampling=sampling))
        r_sums[language] = r_sum(pair, sampling)
    return Evaluation(model or encoder.name, encoder.name, task, directions, r_sums, images, texts, by_calibration, biases)


def score_directions(
    task: Task,
    texts: np.ndarray,
    images: np.ndarray,
    *,
    language: str = "",
    ks: Sequence[int] = K,
    sampling: Sampling = Sampling(),
) -> list[DirectionScores]:
    """Score vectors that exist already. texts (c, d), images (n, d), float32 unit rows."""
    asked = np.flatnonzero(task.image_to_text.counts)  # images that are queries
    text_ranks = relevant_ranks(texts, images, task.text_to_image)
    image_ranks = relevant_ranks(images[asked], texts, task.image_to_text.of(asked))
    settings = {"language": language, "ks": ks, "sampling": sampling}
    return [
        score(TEXT_TO_IMAGE, text_ranks, task.images, len(images), **settings),
        score(IMAGE_TO_TEXT, image_ranks, asked, len(texts), **settings),
    ]


def score_calibrated(
    task: Task, texts: np.ndarray, images: np.ndarray, biases: np.ndarray, *,
    language: str = "", ks: Sequence[int] = K, sampling: Sampling = Sampling(),
) -> DirectionScores:
    """Text to image by score less the image's bias (n,), in its own dimension of the product."""
    asking = np.column_stack([texts, np.ones(len(texts), np.float32)])  # (c, d + 1)
    answering = np.column_stack([images, -biases])  # (n, d + 1)
    ranks = relevant_ranks(asking, answering, task.text_to_image)
    return score(TEXT_TO_IMAGE, ranks, task.images, len(images), language=language, ks=ks, sampling=sampling)


def _embed(
    texts: list[str], encoder: Encoder, progress: Callable[[int, int], None]
) -> np.ndarray:
    parts = []
    for start in range(0, len(texts), TEXT_BLOCK):
        parts.append(encoder.encode_texts(texts[start : start + TEXT_BLOCK]))
        progress(min(start + TEXT_BLOCK, len(texts)), len(texts))
    return np.concatenate(parts)
