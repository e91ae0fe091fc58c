"""A FAISS index is an onion: an IDMap around a PreTransform around a Refine around an IVF.

What one layer knows (inverted lists, a graph, its metric) is not to be had from the outermost
one, so this file peels. On several GPUs the innermost layer is in parts, all of one kind.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np

from indexes.cagra import is_cagra_on_gpu

# CPU-only builds of FAISS have no GPU classes.
_IVF = (faiss.IndexIVF, *([faiss.GpuIndexIVF] if hasattr(faiss, "GpuIndexIVF") else []))
_GPU = (faiss.GpuIndex,) if hasattr(faiss, "GpuIndex") else ()
_IN_PARTS = (faiss.IndexReplicas, faiss.IndexShards)


def layers(index: faiss.Index) -> Iterator[faiss.Index]:
    """Yield the index and every index it wraps, outermost first, each with its real type."""
    index = faiss.downcast_index(index)
    yield index
    if isinstance(index, (faiss.IndexIDMap, faiss.IndexPreTransform)):
        yield from layers(index.index)
    elif isinstance(index, faiss.IndexRefine):
        yield from layers(index.base_index)
    elif is_in_parts(index):
        yield from layers(index.at(0))  # the others are like it


def is_in_parts(layer: faiss.Index) -> bool:
    """Whether a layer stands for several indexes, one for each GPU: copies of all vectors, or shares."""
    return isinstance(layer, _IN_PARTS)


def parts(index: faiss.Index) -> list[faiss.Index]:
    """Return the indexes on several GPUs that an index is made of, each with its real type; or none."""
    for layer in layers(index):
        if is_in_parts(layer):
            return [faiss.downcast_index(layer.at(i)) for i in range(layer.count())]
    return []


def is_ivf(layer: faiss.Index) -> bool:
    """Whether a layer has inverted lists, and so an nprobe."""
    return isinstance(layer, _IVF)


def is_hnsw(layer: faiss.Index) -> bool:
    """Whether a layer is an HNSW graph whose efSearch can be set per search."""
    return isinstance(layer, faiss.IndexHNSW) and not isinstance(layer, faiss.IndexHNSW2Level)


def has_graph(layer: faiss.Index) -> bool:
    """Whether a layer is a graph over vectors that it keeps in `storage`."""
    return isinstance(layer, (faiss.IndexHNSW, faiss.IndexNSG))


def is_on_gpu(index: faiss.Index) -> bool:
    """Whether any layer lives on a GPU."""
    return any(isinstance(layer, _GPU) for layer in layers(index))


def takes_nprobe(index: faiss.Index) -> bool:
    """Whether nprobe means something to this index."""
    return any(is_ivf(layer) for layer in layers(index))


def takes_ef_search(index: faiss.Index) -> bool:
    """Whether efSearch means something: a graph to walk, or an IVF that finds its lists with one."""
    return any(
        is_hnsw(layer)
        or is_cagra_on_gpu(layer)
        or (isinstance(layer, faiss.IndexIVF) and takes_ef_search(layer.quantizer))
        for layer in layers(index)
    )


def takes_selector(index: faiss.Index) -> bool:
    """Whether the innermost layer can be told which of its vectors count. FAISS refuses otherwise."""
    *_, layer = layers(index)
    if isinstance(layer, faiss.IndexIVFAdditiveQuantizer):
        return False
    kinds = (faiss.IndexFlat, faiss.IndexScalarQuantizer, faiss.IndexRaBitQ, faiss.IndexIVF)
    return isinstance(layer, kinds) or is_hnsw(layer)


def unmapped(index: faiss.Index) -> tuple[faiss.Index, np.ndarray | None]:
    """Return the index without its IDMap, and the row number of each vector: a view, or None.

    None means that vector i has row number i. (n,) int64
    """
    layer = next(layers(index))
    if not isinstance(layer, faiss.IndexIDMap):
        return layer, None
    n = layer.id_map.size()
    numbers = faiss.rev_swig_ptr(layer.id_map.data(), n) if n else np.zeros(0, np.int64)
    return next(layers(layer.index)), numbers


def numbered(index: faiss.Index, rows: np.ndarray) -> faiss.IndexIDMap:
    """Return an IDMap around an index that holds vectors already, which FAISS makes of empty ones only.

    rows  (n,) int64, the row number of each vector
    """
    owned = index.thisown
    mapped = faiss.IndexIDMap(faiss.IndexFlatIP(index.d))
    mapped.index, mapped.referenced_objects = index, [index]
    index.thisown = owned  # setting it took that from Python, and FAISS does not have it: nobody would free it
    faiss.copy_array_to_vector(rows, mapped.id_map)
    mapped.ntotal = index.ntotal
    return mapped
