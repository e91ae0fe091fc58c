"""Scanning everything an index holds: with no shortcut taken, what is lost the codes have lost."""

from __future__ import annotations

import faiss
import numpy as np

from indexes.layers import has_graph, is_ivf, layers

_LISTS_IN_MEMORY = 2**22  # a block of queries times all lists: 48 MiB of scores and list numbers


def scan(index: faiss.Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Compare each query with everything in the index; return scores and rows as FAISS does. (q, k)

    index    on the CPU, trained
    queries  (q, d) float32
    k        at most as many as the index holds

    Lists of an IVF index are all visited. A graph (HNSW, NSG) gives way to the vectors it links,
    and an index that refines to the codes it refines with: those decide the scores.
    """
    layer = next(layers(index))
    if isinstance(layer, faiss.IndexIDMap):
        scores, positions = scan(layer.index, queries, k)
        return scores, faiss.vector_to_array(layer.id_map)[positions]
    if isinstance(layer, faiss.IndexPreTransform):
        return scan(layer.index, _transformed(layer, queries), k)
    if isinstance(layer, faiss.IndexRefine):
        return scan(layer.refine_index, queries, k)
    if has_graph(layer):
        return scan(layer.storage, queries, k)
    if is_ivf(layer):
        return _scan_lists(layer, queries, k)
    return layer.search(queries, k)


def _transformed(layer: faiss.IndexPreTransform, queries: np.ndarray) -> np.ndarray:
    for i in range(layer.chain.size()):
        queries = faiss.downcast_VectorTransform(layer.chain.at(i)).apply(queries)
    return queries


def _scan_lists(
    layer: faiss.IndexIVF, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Visit every list. With nprobe alone, a graph that finds the lists may fail to reach some."""
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    params = faiss.SearchParametersIVF(nprobe=layer.nlist)
    step = max(1, _LISTS_IN_MEMORY // layer.nlist)
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        block = np.ascontiguousarray(queries[part])  # (p, d)
        list_scores, lists = scan(layer.quantizer, block, layer.nlist)  # (p, nlist)
        arrays = (lists, list_scores, scores[part], rows[part])
        # Its Python wrapper takes no params, and to set layer.nprobe would disturb other threads.
        layer.search_preassigned_c(
            len(block), faiss.swig_ptr(block), k, *map(faiss.swig_ptr, arrays), False, params
        )
    return scores, rows
