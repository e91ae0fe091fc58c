"""Searching among some of the rows of a FAISS index: never fewer results than there are to find."""

from __future__ import annotations

import math

import faiss
import numpy as np

from indexes.layers import is_hnsw, is_ivf, layers, takes_selector, unmapped
from indexes.matches import as_mask, kept_first, too_short
from indexes.parameters import search_parameters
from indexes.scan import scan

_SPARE = 16  # candidates beside those expected to be needed, where there is no selector


def search_allowed(
    index: faiss.Index,
    queries: np.ndarray,
    k: int,
    allowed: np.ndarray,
    nprobe: int | None,
    ef_search: int | None,
    enough: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and rows (q, <= k) of allowed rows alone; as many as there are, up to `enough`.

    index    on the CPU
    queries  (q, d) float32
    allowed  (m,) bool by row number, for every row of the index

    All allowed rows are compared where that is no more work than an approximate search among all
    rows would be. Otherwise the search visits as many lists, or candidates, more as there are
    fewer rows allowed; and a query that finds fewer than `enough` even so, and not all there are, is
    compared with all of them.
    Raises VectorIndexError if `allowed` is not that.
    """
    inner, numbers = unmapped(index)
    mask = _by_position(allowed, numbers, inner.ntotal)
    count = int(np.count_nonzero(mask))
    wanted = min(k, count)
    if wanted == 0:
        return np.zeros((len(queries), 0), np.float32), np.zeros((len(queries), 0), np.int64)
    if count <= _compared_without_filter(inner, nprobe, ef_search, count):
        scores, positions = scan(inner, queries, wanted, mask)
    else:
        scores, positions = _approximate(inner, queries, wanted, mask, count, nprobe, ef_search)
        short = too_short(positions, min(enough, wanted))
        if len(short):
            scores[short], positions[short] = scan(inner, queries[short], wanted, mask)
    if numbers is None:
        return scores, positions
    return scores, np.where(positions >= 0, numbers[positions], -1)


def _by_position(allowed: np.ndarray, numbers: np.ndarray | None, n: int) -> np.ndarray:
    """Return the mask of the n vectors in the order in which the index holds them. (n,) bool"""
    if numbers is None or n == 0:
        return as_mask(allowed, n)
    return as_mask(allowed, int(numbers.max()) + 1)[numbers]


def _compared_without_filter(
    index: faiss.Index, nprobe: int | None, ef_search: int | None, count: int
) -> float:
    """Return how many vectors, about, a search that finds as much would compare a query with."""
    for layer in layers(index):
        if is_ivf(layer):
            return index.ntotal * min(1.0, (nprobe or layer.nprobe) / layer.nlist)
        if is_hnsw(layer):
            kept = (ef_search or layer.hnsw.efSearch) * index.ntotal / count
            return kept * layer.hnsw.nb_neighbors(0)
    return 0


def _approximate(
    index: faiss.Index,
    queries: np.ndarray,
    k: int,
    mask: np.ndarray,
    count: int,
    nprobe: int | None,
    ef_search: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a search of the index's own kind finds: scores, positions (q, k); -1 pads."""
    share = count / index.ntotal
    if takes_selector(index):
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        params = search_parameters(index, nprobe, ef_search, selector, share, k)
        return index.search(queries, k, params=params)
    width = min(index.ntotal, math.ceil(k / share) + _SPARE)
    params = search_parameters(index, nprobe, ef_search, k=width)
    return kept_first(*index.search(queries, width, params=params), mask, k)
