"""One search's own settings, in the shape of the FAISS index: so that threads do not disturb each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import faiss

from indexes.cagra import ITOPK, is_cagra_on_gpu
from indexes.layers import is_hnsw, is_in_parts, is_ivf, layers, parts


def search_parameters(
    index: faiss.Index,
    nprobe: int | None,
    ef_search: int | None,
    selector: faiss.IDSelector | None = None,
    share: float = 1.0,
    k: int = 1,
) -> faiss.SearchParameters | None:
    """Return the settings of a search; None leaves the index's own in force.

    selector  which positions count; the innermost layer must take selectors, see takes_selector()
    share     of all vectors that count: so many times fewer are met on the way, so that it takes
              as many times more lists, or candidates, to find as much
    k         results per query: a graph's walk must keep as many candidates
    """
    if any(map(is_cagra_on_gpu, layers(index))):
        return faiss.SearchParametersCagra(itopk_size=max(ef_search or ITOPK, k))
    if any(is_hnsw(layer) and (ef_search or layer.hnsw.efSearch) < k for layer in layers(index)):
        ef_search = k  # with fewer FAISS leaves places empty
    if nprobe is None and ef_search is None and selector is None:
        return None
    layer = next(layers(index))
    if is_in_parts(layer):
        return None  # FAISS refuses any for copies: see nprobe_in_parts()
    if isinstance(layer, faiss.IndexIDMap):
        return search_parameters(layer.index, nprobe, ef_search, selector, share)
    if isinstance(layer, faiss.IndexPreTransform):
        inner = search_parameters(layer.index, nprobe, ef_search, selector, share)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(layer, faiss.IndexRefine):
        inner = search_parameters(layer.base_index, nprobe, ef_search, selector, share)
        return faiss.IndexRefineSearchParameters(k_factor=layer.k_factor, base_index_params=inner)
    if is_ivf(layer):
        lists = min(layer.nlist, math.ceil((nprobe or layer.nprobe) / share))
        params = faiss.SearchParametersIVF(nprobe=lists, sel=selector)
        if ef_search is not None and isinstance(layer, faiss.IndexIVF):
            params.quantizer_params = search_parameters(layer.quantizer, None, ef_search)
        return params
    if is_hnsw(layer) and (ef_search is not None or selector is not None):
        kept = math.ceil((ef_search or layer.hnsw.efSearch) / share)
        return faiss.SearchParametersHNSW(efSearch=kept, sel=selector)
    return None if selector is None else faiss.SearchParameters(sel=selector)


@contextmanager
def nprobe_in_parts(index: faiss.Index, nprobe: int | None) -> Iterator[None]:
    """Meanwhile the parts of an index on several GPUs visit so many lists; other indexes are left alone.

    Not for searches at the same time: it changes the parts.
    """
    lists = [part for part in parts(index) if is_ivf(part)]
    before = [part.nprobe for part in lists]
    for part in lists:
        part.nprobe = min(part.nlist, nprobe or part.nprobe)
    try:
        yield
    finally:
        for part, own in zip(lists, before):
            part.nprobe = own
