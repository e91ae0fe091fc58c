"""Results that are good and unlike each other: maximal marginal relevance."""

from __future__ import annotations

import numpy as np

from retrieval.wanted import DIVERSE_WEIGHT

_LEAST_CANDIDATES, _CANDIDATES_PER_RESULT = 50, 5


def candidates_for(k: int) -> int:
    """Among how many of the best to choose k."""
    return max(_LEAST_CANDIDATES, _CANDIDATES_PER_RESULT * k)


def diverse_order(scores: np.ndarray, vectors: np.ndarray, k: int, weight: float = DIVERSE_WEIGHT) -> np.ndarray:
    """Choose k candidates one by one, each the best of `weight * score - (1 - weight) * likeness`.

    Likeness is the highest cosine with one chosen before; scores are stretched to [0, 1] over the
    candidates, for a text's cosines with images are smaller and closer together than those of
    images with each other. (Carbonell & Goldstein 1998, "The use of MMR", section 2.)

    scores   (n,) of the candidates, best first
    vectors  (n, d) unit rows, their images
    k        how many to choose; all where there are fewer
    weight   1 asks for the best alone, 0 for the least alike

    Returns positions in the order of choice: int64 (min(k, n),). Equal ones go to the earlier.
    """
    spread = float(np.ptp(scores)) if len(scores) else 0.0
    good = (scores - np.min(scores, initial=np.inf)) / spread if spread else np.ones(len(scores))
    likeness = np.zeros(len(scores))
    left = np.ones(len(scores), bool)
    chosen: list[int] = []
    for _ in range(min(k, len(scores))):
        value = np.where(left, weight * good - (1 - weight) * likeness, -np.inf)
        best = int(np.argmax(value))
        chosen.append(best)
        left[best] = False
        alike = vectors @ vectors[best]  # (n,)
        likeness = alike if len(chosen) == 1 else np.maximum(likeness, alike)
    return np.array(chosen, np.int64)
