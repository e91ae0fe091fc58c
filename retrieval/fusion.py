"""Fusing the vectors of a query's terms, or of a document's image and caption, into one."""

from __future__ import annotations

import numpy as np

from retrieval.errors import QueryError
from retrieval.types import FUSIONS, PRODUCT, SLERP, SUM

# Of the weights' sum. Rounding a stored vector to float16 moves it by 5e-4: less than this is noise.
_CANCELLED = 2e-3
_STEPS = 50  # towards a spherical mean; two terms need one
_CLOSE = 1e-9  # radians


def fuse(vectors: np.ndarray, weights: np.ndarray, how: str = SUM) -> np.ndarray:
    """One unit vector float32 (d,) of unit rows (t, d) and their weights (t,).

    how  "sum"      w_1 x_1 + w_2 x_2 + ..., normalised; negative weights subtract
         "product"  sign(x) |x|^w of each component, multiplied, normalised; a term of weight 0 is left
                    out; for encoders trained to be used so, for others it finds little
         "slerp"    the mean on the sphere: of two terms the point that divides the arc between them
                    as the weights say (Shoemake 1985), of more the one towards which their weighted
                    arcs balance (Buss and Fillmore 2001); it does not depend on their order

    Raises QueryError where nothing remains of the terms, for a negative weight unless they are
    summed, and for another word for how.
    """
    if how not in FUSIONS:
        raise QueryError(f"There is no fusion {how!r}; choose one of {', '.join(FUSIONS)}.")
    weights = np.asarray(weights, np.float64)
    if how != SUM and (weights < 0).any():
        raise QueryError(f"A {how} cannot subtract. Give its terms positive weights, or fuse by sum.")
    used = weights != 0
    vectors, weights = vectors[used].astype(np.float64), weights[used]
    shares = weights / np.abs(weights).max(initial=0)  # of the largest, for squares of large ones overflow
    total = np.abs(shares).sum()
    fused = shares @ vectors
    if np.linalg.norm(fused) <= _CANCELLED * total:
        raise QueryError("The terms of the query cancel each other out. Give them other weights.")
    if how == PRODUCT:
        fused = np.prod(np.sign(vectors) * np.abs(vectors) ** weights[:, None], axis=0)
    length = np.linalg.norm(fused)
    if not np.isfinite(length) or length == 0:
        raise QueryError("The terms of the query multiply to nothing. Give them smaller weights, or fuse by sum.")
    fused /= length
    return (_mean_on_sphere(fused, vectors, shares / total) if how == SLERP else fused).astype(np.float32)


def _mean_on_sphere(start: np.ndarray, vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean = start
    for _ in range(_STEPS):
        cosines = vectors @ mean  # (t,)
        sideways = vectors - cosines[:, None] * mean  # (t, d), in the tangent plane
        lengths = np.linalg.norm(sideways, axis=1)
        arcs = np.arctan2(lengths, cosines)
        step = weights @ (sideways * (arcs / np.maximum(lengths, _CLOSE))[:, None])
        far = np.linalg.norm(step)
        if far < _CLOSE:
            break
        mean = np.cos(far) * mean + np.sin(far) * step / far
        mean /= np.linalg.norm(mean)
    return mean
