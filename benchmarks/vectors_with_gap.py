"""Synthetic vectors that are as hard to search as those of a text-image model.

Uniform random vectors mislead: their neighbours are hardly nearer than everything else, and
queries drawn like the documents are easier than texts are for an index over images. What matters
of real embeddings is kept:

- low intrinsic dimension: the meaning of a vector lies in a subspace of `rank` dimensions
- clusters: meanings gather around centres, some far more often than others
- a modality gap: each modality is shifted by a constant direction of its own, so that texts and
  images lie in two cones, and no query is among the documents

    document = unit(meaning + shift_image + noise)
    query    = unit(meaning of some document, blurred + shift_text + noise)
    image    = a document that was held out: a query that lies where documents lie
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_BLOCK = 65536


class VectorsWithGap(NamedTuple):
    """documents (n, d), queries (q, d), images (q, d): float32 unit rows.

    queries  text-like; origin (q,) are the rows that they blur
    images   image-like: drawn as documents are, and none of them
    """

    documents: np.ndarray
    queries: np.ndarray
    origin: np.ndarray
    images: np.ndarray


def vectors_with_gap(
    n: int, q: int, dim: int = 512, *, rank: int = 48, clusters: int = 1000, gap: float = 0.8,
    blur: float = 0.35, noise: float = 0.15, seed: int = 0,
) -> VectorsWithGap:
    """Return n documents and q queries of each kind; equal arguments give equal vectors.

    rank      dimensions of the subspace that meanings lie in, at most dim - 2
    clusters  centres; the i-th is drawn with a weight of 1 / (i + 10)
    gap       length of each modality's shift, where a meaning has length 1
    blur      length of what a query's meaning differs by from its document's
    noise     length of the noise that fills all dimensions

    Raises ValueError if rank is above dim - 2.
    """
    if rank > dim - 2:
        raise ValueError(f"rank {rank} leaves no room for two shifts in {dim} dimensions")
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.standard_normal((dim, rank + 2)))[0].T.astype(np.float32)
    space, shift_image, shift_text = basis[:rank], gap * basis[rank], gap * basis[rank + 1]
    centres = _units(random, clusters, rank)  # (c, r)
    weights = 1 / (np.arange(clusters) + 10)
    weights /= weights.sum()

    def drawn_meanings(count: int) -> np.ndarray:
        chosen = random.choice(clusters, count, p=weights)  # (count,)
        return _unit(centres[chosen] + 0.7 * _units(random, count, rank))  # (count, r)

    meanings = drawn_meanings(n)
    origin = random.choice(n, q, replace=q > n)  # (q,)
    asked = _unit(meanings[origin] + blur * _units(random, q, rank))  # (q, r)
    documents = np.empty((n, dim), np.float32)
    for start in range(0, n, _BLOCK):
        block = slice(start, start + _BLOCK)
        documents[block] = _placed(meanings[block], space, shift_image, noise, random)
    queries = _placed(asked, space, shift_text, noise, random)
    images = _placed(drawn_meanings(q), space, shift_image, noise, random)
    return VectorsWithGap(documents, queries, origin, images)


def _placed(
    meanings: np.ndarray, space: np.ndarray, shift: np.ndarray, noise: float,
    random: np.random.Generator,
) -> np.ndarray:
    return _unit(meanings @ space + shift + noise * _units(random, len(meanings), space.shape[1]))


def _units(random: np.random.Generator, count: int, dim: int) -> np.ndarray:
    return _unit(random.standard_normal((count, dim), dtype=np.float32))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
