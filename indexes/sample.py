"""How many vectors an index learns from: enough for its centroids, and no more than memory allows.

FAISS asks for 39 to 256 of them a centroid, and k-means takes time for each:
github.com/facebookresearch/faiss/wiki/FAQ
"""

from __future__ import annotations

_PER_CENTROID, _FEWEST_PER_CENTROID = 64, 39
_USUAL = 65536  # 256 for each of the 256 centroids of a PQ part
_FEWEST = 4096  # for directions and ranges of values (PCA, SQ), which have no centroids


def fewest_to_learn_from(n: int, centroids: int) -> int:
    """Return how many of n vectors training is to have, however little memory there is."""
    return min(n, max(_FEWEST, _FEWEST_PER_CENTROID * centroids))


def sample_size(n: int, centroids: int, row_bytes: int, memory: int | None) -> int:
    """Return how many of n vectors to train on.

    centroids  the most that any part of the index learns
    memory     bytes that they may take, row_bytes each; None: what serves training best
    """
    size = min(n, max(_USUAL, _PER_CENTROID * centroids))
    if memory is None:
        return size
    return max(min(size, memory // row_bytes), fewest_to_learn_from(n, centroids))
