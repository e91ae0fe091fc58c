"""How much a cross-encoder's score should count beside the dual encoder's: what ranks photos held out best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from indexes import exact_search
from retrieval.bootstrap import percentile_interval, resampled_means
from retrieval.rank.cross_encoder import DEPTH, CrossEncoder, second_look
from retrieval.train.match import MatchExamples

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
_CAPTIONS_AT_ONCE = 32


@dataclass(frozen=True)
class Lift:
    """R@1, text to image, among the photos held out.

    weight     of the cross-encoder's scores; 0 where none helps
    photos     that compete
    before     by the dual encoder alone; after: with the second look
    low, high  95 % interval of the difference, paired over the same captions. It is somewhat too
               good: the weight was chosen on these photos
    """

    weight: float
    photos: int
    before: float
    after: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0


def chosen_weight(model: CrossEncoder, held_out: MatchExamples, *, depth: int = DEPTH, seed: int = 0) -> Lift:
    """The weight of WEIGHTS with the best R@1, of equal ones that with the best mean reciprocal rank, and then the least.

    depth  images that are looked at again; a right one that is not among them counts as never found
    """
    depth = min(depth, len(held_out.images))
    first = exact_search(held_out.images, held_out.texts, depth)  # (c, depth)
    again = _scores(model, held_out, first.rows)
    ranks = [_ranks(second_look(again, first.scores, weight), first.rows == held_out.owners[:, None]) for weight in WEIGHTS]
    merits = [(int((one == 1).sum()), round(float((1 / one).sum()), 9)) for one in ranks]
    best = merits.index(max(merits))
    before, after = ranks[0] == 1, ranks[best] == 1  # (c,) bool
    drawn = resampled_means(after * 1.0 - before, clusters=held_out.owners, seed=seed)
    low, high = map(float, percentile_interval(drawn))
    return Lift(WEIGHTS[best], len(held_out.images), float(before.mean()), float(after.mean()), low, high)


def _ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Of the right image in each line: (c,) float, inf where it is not there. scores, right (c, depth)

    Equal scores keep their order.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(right, order, axis=1)
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.inf)


@torch.inference_mode()
def _scores(model: CrossEncoder, examples: MatchExamples, rows: np.ndarray) -> np.ndarray:
    """Of each caption with its images' rows (c, m): (c, m) float32."""
    scores = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _CAPTIONS_AT_ONCE):
        part = slice(start, start + _CAPTIONS_AT_ONCE)
        b, m = rows[part].shape
        there = torch.from_numpy(examples.there[part]).repeat_interleave(m, 0)
        words = model.words(torch.from_numpy(examples.words[part].astype(np.float32))).repeat_interleave(m, 0)
        places = model.places(torch.from_numpy(np.asarray(examples.places[rows[part].ravel()], np.float32)))
        scores[part] = model(places, words, there).view(b, m).numpy()
    return scores
