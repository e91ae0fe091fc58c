"""Scanning everything an index holds: with no shortcut taken, what is lost the codes have lost."""

from __future__ import annotations

import faiss
import numpy as np

from indexes.layers import has_graph, is_ivf, layers, takes_selector, unmapped
from indexes.matches import Matches, kept_first, no_matches

_LISTS_IN_MEMORY = 2**22  # a block of queries times all lists: 48 MiB of scores and list numbers
_DECODED_AT_ONCE = 8192


def scan(
    index: faiss.Index, queries: np.ndarray, k: int, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each query with everything in the index; return scores and rows as FAISS does. (q, k)

    index    on the CPU, trained
    queries  (q, d) float32
    k        at most as many as the index holds, and are allowed
    mask     (n,) bool: which vectors are compared, by position; not for an IDMap. None takes all

    Lists of an IVF index are all visited. A graph (HNSW, NSG) gives way to the vectors it links,
    and an index that refines to the codes it refines with: those decide the scores.
    """
    layer = next(layers(index))
    if isinstance(layer, faiss.IndexIDMap):
        inner, numbers = unmapped(layer)
        scores, positions = scan(inner, queries, k)
        return scores, numbers[positions]
    if isinstance(layer, faiss.IndexPreTransform):
        return scan(layer.index, _transformed(layer, queries), k, mask)
    if isinstance(layer, faiss.IndexRefine):
        return scan(layer.refine_index, queries, k, mask)
    if has_graph(layer):
        return scan(layer.storage, queries, k, mask)
    if mask is None:
        return _scan_lists(layer, queries, k) if is_ivf(layer) else layer.search(queries, k)
    if takes_selector(layer):
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        if is_ivf(layer):
            return _scan_lists(layer, queries, k, selector)
        return layer.search(queries, k, params=faiss.SearchParameters(sel=selector))
    if is_ivf(layer):
        return kept_first(*_scan_lists(layer, queries, layer.ntotal), mask, k)
    return _scan_decoded(layer, queries, k, np.flatnonzero(mask))


def _scan_decoded(
    layer: faiss.Index, queries: np.ndarray, k: int, positions: np.ndarray
) -> Matches:
    """Decode these vectors (m,), and compare with what comes out."""
    best = no_matches(len(queries), k)
    for start in range(0, len(positions), _DECODED_AT_ONCE):
        part = positions[start : start + _DECODED_AT_ONCE]
        scores = np.concatenate([best.scores, queries @ layer.reconstruct_batch(part).T], axis=1)
        rows = np.concatenate([best.rows, np.broadcast_to(part, (len(queries), len(part)))], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = Matches(*(np.take_along_axis(found, order, axis=1) for found in (scores, rows)))
    return best


def _transformed(layer: faiss.IndexPreTransform, queries: np.ndarray) -> np.ndarray:
    for i in range(layer.chain.size()):
        queries = faiss.downcast_VectorTransform(layer.chain.at(i)).apply(queries)
    return queries


def _scan_lists(
    layer: faiss.IndexIVF, queries: np.ndarray, k: int, selector: faiss.IDSelector | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Visit every list. With nprobe alone, a graph that finds the lists may fail to reach some."""
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    params = faiss.SearchParametersIVF(nprobe=layer.nlist, sel=selector)
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
