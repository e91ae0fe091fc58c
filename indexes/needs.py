"""What an index needs before it is built: vectors to learn from, memory, better scores than its codes give."""

from __future__ import annotations

import faiss

from indexes.layers import has_graph, is_ivf, layers
from indexes.spec import IndexSpec
from indexes.training import least_to_train, least_training_bytes

_HALF = 2  # bytes of a float16 value
_ID = 8  # bytes of a row number


def least_vectors(spec: IndexSpec, dim: int) -> int:
    """Return how many vectors it takes to train the index. Raises SpecError as validate() does."""
    index = spec.empty_index(dim)
    return 1 if index.is_trained else least_to_train(index)


def needed_memory(spec: IndexSpec, n: int, dim: int) -> int:
    """Return about how many bytes it takes to build and hold an index of n vectors.

    That is its codes, row numbers, lists and graph, or the smallest sample that it can be trained
    on, which is given back before there are codes. With more, build_index trains on more.
    Raises SpecError as validate() does.
    """
    index = spec.empty_index(dim)  # held: its layers do not own it
    bytes_each, fixed = _ID, 0
    for layer in layers(index):
        if isinstance(layer, faiss.IndexRefine):
            bytes_each += faiss.downcast_index(layer.refine_index).sa_code_size()
        elif is_ivf(layer):
            bytes_each += layer.code_size + _ID
            fixed += 4 * dim * layer.nlist
        elif has_graph(layer):
            bytes_each += faiss.downcast_index(layer.storage).sa_code_size() + 4 * _links(layer)
        elif isinstance(layer, faiss.IndexFlatCodes):
            bytes_each += layer.code_size
        elif hasattr(layer, "code_size") and not isinstance(layer, faiss.IndexPreTransform):
            bytes_each += layer.code_size  # FastScan
    return max(n * bytes_each, least_training_bytes(index, n)) + fixed


def has_small_codes(spec: IndexSpec, dim: int) -> bool:
    """Whether codes are smaller than float16 vectors, so that results should be refined with those.

    Raises SpecError as validate() does.
    """
    index = spec.empty_index(dim)
    *_, innermost = layers(index)
    if any(isinstance(layer, faiss.IndexRefine) for layer in layers(index)):
        return False
    stored = faiss.downcast_index(innermost.storage) if has_graph(innermost) else innermost
    return getattr(stored, "code_size", _HALF * dim) < _HALF * dim


def _links(graph: faiss.Index) -> int:
    """How many links a vector of a graph has room for, on its lowest level."""
    if hasattr(graph, "hnsw"):
        return int(graph.hnsw.nb_neighbors(0))
    return int(graph.nsg.R)
