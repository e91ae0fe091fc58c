"""Training an index: what its layers learn, from a sample drawn over all vectors.

Behind a projection (PCA, OPQ) the sample is kept as it comes out of that: it is most of the memory
that training takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from indexes.layers import is_ivf, layers
from indexes.sample import fewest_to_learn_from, sample_size
from indexes.vectors import shape_of, unit_blocks

_BLOCK_ROWS = 8192  # read at a time beside the sample
_FLOAT = 4  # bytes
_COPIES = 2  # of the sample, while PCA or OPQ learns: FAISS makes one
_OPQ_CENTROIDS = 256  # of each part of the quantiser that OPQ trains to rotate for


class FaissRefused(Exception):
    """FAISS raised while training or adding."""


@contextmanager
def faiss_call() -> Iterator[None]:
    """Tell FAISS's own failures from those of reading vectors or reporting progress."""
    try:
        yield
    except RuntimeError as error:
        raise FaissRefused from error


def train(
    index: faiss.Index, vectors: Any, *, least: int, seed: int, memory: int | None = None
) -> None:
    """Train on a sample: seeded, silent, and without what no search here makes use of.

    least   what least_to_train() says of it; a GPU's index does not tell
    memory  bytes that the sample may take, but never too few vectors to learn from; None: no limit

    Raises FaissRefused.
    """
    n, dim = shape_of(vectors)
    _prepare(index, seed)
    outer, chain, inner = _taken_apart(index)
    if not all(transform.is_trained for transform in chain):
        size = sample_size(n, _learnt_by(chain), _COPIES * _FLOAT * dim, memory)
        _train_chain(chain, training_sample(vectors, size, seed))
    if not inner.is_trained:
        size = sample_size(n, least, _FLOAT * inner.d, memory)
        _train_inner(inner, training_sample(vectors, size, seed, chain))
    if chain:
        outer.is_trained = True


def least_to_train(index: faiss.Index) -> int:
    """Return the least vectors that training takes: one for each centroid of the part with the most."""
    least = 1
    for layer in layers(index):
        if is_ivf(layer):
            least = max(least, layer.nlist)
        if hasattr(layer, "pq"):
            least = max(least, layer.pq.ksub)
        if isinstance(layer, faiss.IndexPreTransform):
            least = max(least, _learnt_by(_chain(layer)))
    return least


def least_training_bytes(index: faiss.Index, n: int) -> int:
    """Return how many bytes the smallest sample of n vectors takes that train() is content with."""
    if index.is_trained:
        return 0
    outer, chain, inner = _taken_apart(index)
    inside = _FLOAT * inner.d * fewest_to_learn_from(n, least_to_train(index))
    if all(transform.is_trained for transform in chain):
        return inside
    return max(inside, _COPIES * _FLOAT * outer.d * fewest_to_learn_from(n, _learnt_by(chain)))


def training_sample(
    vectors: Any, size: int, seed: int, chain: list[faiss.VectorTransform] | None = None
) -> np.ndarray:
    """Return `size` of the n vectors, drawn without repeats, in row order, as the chain transforms them."""
    n, dim = shape_of(vectors)
    chosen = np.sort(np.random.default_rng(seed).choice(n, size, replace=False))  # (size,)
    sample = np.empty((size, chain[-1].d_out if chain else dim), np.float32)
    for start, block in unit_blocks(vectors, _BLOCK_ROWS):
        first, last = np.searchsorted(chosen, [start, start + len(block)])
        if first < last:
            sample[first:last] = _through(chain or [], block[chosen[first:last] - start])
    return sample


def _taken_apart(
    index: faiss.Index,
) -> tuple[faiss.Index, list[faiss.VectorTransform], faiss.Index]:
    """Return the index, the transforms that vectors pass first, if any, and what is behind them."""
    outer = next(layers(index))
    if not isinstance(outer, faiss.IndexPreTransform):
        return outer, [], outer
    return outer, _chain(outer), next(layers(outer.index))


def _chain(layer: faiss.IndexPreTransform) -> list[faiss.VectorTransform]:
    return [faiss.downcast_VectorTransform(layer.chain.at(i)) for i in range(layer.chain.size())]


def _through(chain: list[faiss.VectorTransform], vectors: np.ndarray) -> np.ndarray:
    for transform in chain:
        vectors = transform.apply(vectors)
    return vectors


def _learnt_by(chain: list[faiss.VectorTransform]) -> int:
    return _OPQ_CENTROIDS if any(isinstance(one, faiss.OPQMatrix) for one in chain) else 1


def _prepare(index: faiss.Index, seed: int) -> None:
    for layer in layers(index):
        for part in (layer, getattr(layer, "pq", None), getattr(layer, "rq", None)):
            if hasattr(part, "cp"):
                part.cp.seed = seed
                part.cp.min_points_per_centroid = 1  # otherwise FAISS warns on stderr
        if hasattr(layer, "do_polysemous_training"):
            layer.do_polysemous_training = False  # takes seconds per PQ part
        if isinstance(layer, faiss.IndexPreTransform):
            _seed_opq(_chain(layer), seed)


def _seed_opq(chain: list[faiss.VectorTransform], seed: int) -> None:
    """OPQ trains a product quantiser of its own, hundreds of times: give it one that is quiet."""
    for transform in chain:
        if isinstance(transform, faiss.OPQMatrix) and transform.pq is None:
            quantiser = faiss.ProductQuantizer(transform.d_out, transform.M, 8)
            quantiser.cp.seed = seed
            quantiser.cp.min_points_per_centroid = 1
            quantiser.this.disown()  # the transform points at it and outlives this call
            transform.pq = quantiser


def _train_inner(index: faiss.Index, sample: np.ndarray) -> None:
    for layer in layers(index):
        if isinstance(layer, faiss.IndexPreTransform):  # as in an index that refines
            _train_chain(_chain(layer), sample)
    with faiss_call():
        index.train(sample)


def _train_chain(chain: list[faiss.VectorTransform], sample: np.ndarray) -> None:
    """Train each on what the one before makes of the sample (s, d), and take PCA's shift away.

    FAISS moves the mean to the origin. That changes no distance, but to inner products it adds a
    term of each vector's own, which has nothing to do with the query.
    """
    for transform in chain:
        if not transform.is_trained:
            with faiss_call():
                transform.train(sample)
        if isinstance(transform, faiss.PCAMatrix):
            faiss.copy_array_to_vector(np.zeros(transform.d_out, dtype=np.float32), transform.b)
        sample = transform.apply(sample)
