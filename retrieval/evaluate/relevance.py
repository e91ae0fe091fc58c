"""Does `--min-score auto` know when there is nothing? Asked where half of the right images were taken away."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from indexes import exact_search
from retrieval.bootstrap import Estimate, mean_intervals
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.scores import Sampling
from retrieval.rank.refinement import AUTO_RELEVANCE
from retrieval.rank.relevance import relevance_model
from retrieval.types import Encoder


@dataclass(frozen=True)
class AutoThreshold:
    """How well an encoder's relevance tells captions whose image is there from those whose is not.

    images     that were left; queries: captions, about half of them without their image
    precision  share with their image among the queries that were shown anything
    recall     share that were shown anything among the queries with their image
    rejected   share that were shown nothing among the queries without their image
    """

    model: str
    images: int
    queries: int
    precision: Estimate
    recall: Estimate
    rejected: Estimate

    @property
    def shares(self) -> dict[str, Estimate]:
        return {"precision": self.precision, "recall": self.recall, "rejected": self.rejected}

    def to_json(self) -> dict[str, Any]:
        shares = {name: one.to_json() for name, one in self.shares.items()}
        return {"model": self.model, "images": self.images, "queries": self.queries, **shares}


def auto_threshold(evaluation: Evaluation, encoder: Encoder, sampling: Sampling = Sampling()) -> AutoThreshold:
    """Ask with all captions of the task after half of its images, drawn by the seed, were taken away.

    Another image may well show what a caption says, the more the plainer the caption: what counts as
    wrongly shown here need not look wrong. Raises VectorError.
    """
    task = evaluation.task
    left = np.sort(np.random.default_rng(sampling.seed).permutation(len(task.ids))[: (len(task.ids) + 1) // 2])
    images = evaluation.images[left]
    there = np.isin(task.images, left)  # (c,)
    best = exact_search(images, evaluation.texts, 1).scores[:, 0]
    shown = relevance_model(partial(exact_search, images), encoder).of(best) >= AUTO_RELEVANCE

    def share(of: np.ndarray, among: np.ndarray) -> Estimate:
        values = np.where(among, of.astype(np.float64), np.nan)
        if not among.any():
            return Estimate(np.nan, np.nan, np.nan)
        low, high = mean_intervals(values, clusters=task.images, resamples=sampling.resamples, seed=sampling.seed)
        return Estimate(float(np.nanmean(values)), float(low), float(high))

    return AutoThreshold(
        evaluation.model, len(left), len(there), share(there, shown), share(shown, there), share(~shown, ~there)
    )
