"""Tags for images that are embedded already: zero-shot, from their stored vectors alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy as np

from retrieval.classify.prompts import TEMPLATES, class_vectors, read_lines, read_templates, shortened
from retrieval.classify.tag_scores import TagScores, score_tags
from retrieval.classify.truth import match_truth, read_truth
from retrieval.collection import Collection
from retrieval.errors import ClassesError, CollectionError
from retrieval.types import Encoder

_SCORES_AT_ONCE = 2**22  # 16 MB of them, whatever the number of images and labels
_MOST_AT_ONCE = 8192  # images
_USUAL_SCALE = 100.0  # where an encoder does not say: what CLIP's training ends at


@dataclass(frozen=True)
class Rule:
    """Which labels an image is given. By default the three likeliest, of probability 0.1 or more.

    top          at most so many, the best; None for no limit
    threshold    the least score; None asks for the least probability instead
    probability  share of the label in a softmax over all labels, of scores times the encoder's scale

    Raises ClassesError for a least score or probability that is none.
    """

    top: int | None = 3
    threshold: float | None = None
    probability: float = 0.1

    def __post_init__(self) -> None:
        if not (self.threshold is None or -1 <= self.threshold <= 1) or not 0 <= self.probability <= 1:  # nan is neither
            raise ClassesError("A threshold is a score from -1 to 1, and a probability is from 0 to 1.")

    @property
    def in_words(self) -> str:
        least = f"score >= {self.threshold:g}" if self.threshold is not None else f"probability >= {self.probability:g}"
        return f"the best {self.top} labels with {least}" if self.top else f"labels with {least}"

    def given(self, scores: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Both (n, c); which label each image is given: bool (n, c). Of equals those listed first."""
        if self.threshold is not None:
            enough = scores >= self.threshold
        else:
            enough = probabilities >= self.probability
        if self.top is None or self.top >= scores.shape[1]:
            return enough
        last = -np.partition(-scores, self.top - 1, axis=1)[:, [self.top - 1]]  # (n, 1), the lowest among the best
        better, equal = scores > last, scores == last
        places_left = self.top - better.sum(axis=1, keepdims=True)
        return enough & (better | (equal & (equal.cumsum(axis=1) <= places_left)))


@dataclass(frozen=True)
class Tag:
    """score: cosine of image and label. probability: see `Rule`."""

    label: str
    score: float
    probability: float

    def to_json(self) -> dict[str, Any]:
        return {"label": self.label, "score": round(self.score, 6), "probability": round(self.probability, 6)}


@dataclass(frozen=True)
class TaggedImage:
    """tags: the best first; there may be none."""

    id: str
    path: str
    tags: list[Tag]


def read_labels(file: Path) -> list[str]:
    """Labels, one a line. Blank lines are skipped. Raises ClassesError as `check_labels` does."""
    return check_labels([line.strip() for line in read_lines(file) if line.strip()], str(file))


def check_labels(labels: Sequence[str], source: str) -> list[str]:
    """Raises ClassesError without a label, for a blank one, and for one that is there twice, in whatever case."""
    if not labels:
        raise ClassesError(f"{source} holds no label. Write one a line, such as: dog")
    if not all(label.strip() for label in labels):
        raise ClassesError(f"{source} has an empty label. Labels are words, such as: dog")
    times = Counter(label.casefold() for label in labels)
    twice = [label for label, count in times.items() if count > 1]
    if twice:
        raise ClassesError(f"{source} has labels more than once: {shortened(twice)}. Keep one of each.")
    return list(labels)


class Tagger:
    """Tags the images of one collection. Only the labels are encoded, when it is made."""

    def __init__(
        self, collection: Collection, labels: Sequence[str], rule: Rule = Rule(), *, templates: Path | None = None
    ):
        """templates: a file of sentences, see `read_templates`; None takes a short list of ours.

        Raises ClassesError for a single label without a threshold, CollectionError without images.
        """
        if len(labels) < 2 and rule.threshold is None:
            raise ClassesError(
                "A single label has nothing to be more probable than. Give several, or the least score: --threshold X"
            )
        if not len(collection):
            raise CollectionError(f"{collection.path} holds no images yet. Add some: retrieval index SOURCE "
                                  f"-o {collection.path}")
        sentences = read_templates(templates) if templates else list(TEMPLATES)
        self.labels, self.rule = list(labels), rule
        self._collection = collection
        encoder = collection.load_encoder()
        self._vectors = class_vectors([[label] for label in labels], sentences, encoder)  # (c, d)
        self._scale = _scale(encoder)

    def tags(self) -> Iterator[TaggedImage]:
        """Every image, in the order of the vectors; a block of them is in memory at a time.

        Raises CollectionError if the collection is rewritten meanwhile.
        """
        for rows, scores, probabilities, given in self._blocks(self._collection.catalog.live_rows()):
            documents = self._collection.catalog.documents_of_rows(rows.tolist())
            for image, row in enumerate(rows.tolist()):
                if row not in documents:  # forgotten meanwhile
                    continue
                chosen = np.flatnonzero(given[image])
                chosen = chosen[np.argsort(-scores[image, chosen], kind="stable")]
                yield TaggedImage(*documents[row], [
                    Tag(self.labels[label], float(scores[image, label]), float(probabilities[image, label]))
                    for label in chosen
                ])

    def judge(self, truth: Path, *, strict: bool = False, seed: int = 0) -> TagScores:
        """How well the images that `truth` names are tagged; see `truth.read_truth` and `match_truth`.

        Raises ClassesError, CaptionsError, CollectionError.
        """
        documents = self._collection.catalog.indexed()
        matched = match_truth(read_truth(truth), [id for id, _ in documents], self.labels, truth, strict=strict)
        rows = np.array([documents[image][1] for image in matched.images], np.int64)
        given, best = [], []
        for _, scores, _, chosen in self._blocks(rows):
            given.append(chosen)
            best.append(scores.argmax(1))
        return score_tags(np.concatenate(given), np.concatenate(best), matched.true, self.labels, seed=seed)

    def _blocks(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """(rows (b,), scores (b, c), probabilities (b, c), given (b, c)) of some rows at a time."""
        catalog = self._collection.catalog
        rewrites = catalog.rewrites
        step = max(1, min(_MOST_AT_ONCE, _SCORES_AT_ONCE // len(self.labels)))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            scores = self._collection.vectors.take(block) @ self._vectors.T  # (b, c)
            if catalog.was_replaced() or catalog.rewrites != rewrites:
                raise CollectionError(f"{self._collection.path} was rewritten meanwhile. Run the command again.")
            probabilities = _softmax(self._scale * scores)
            yield block, scores, probabilities, self.rule.given(scores, probabilities)


def _scale(encoder: Encoder) -> float:
    return getattr(encoder, "logit_scale", _USUAL_SCALE)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
