"""An index on GPUs: on each a copy, which answers its share of the queries, or a share of the vectors.

FAISS could place an index on several GPUs by itself, but where one of them is short of memory that
ends the process, or leaves the others' memory taken.
"""

from __future__ import annotations

import functools
import logging
from contextlib import suppress
from typing import Any

import faiss
import numpy as np

from indexes.cagra import is_cagra
from indexes.layers import layers, numbered, unmapped

log = logging.getLogger(__name__)


def spread(index: faiss.Index, gpus: list[int]) -> faiss.Index:
    """Return the index on GPUs: a copy on each if that fits, otherwise a share of its vectors.

    CAGRA goes to the first alone: FAISS hands no search parameters on to copies or shares.

    index  on the CPU, of types that FAISS has GPU versions of
    gpus   their numbers

    Raises RuntimeError if they have too little memory.
    """
    if any(map(is_cagra, layers(index))):
        copy = _copied(index, 0, gpus[0])
        copy.referenced_objects = [index]  # FAISS leaves the vectors where they were: see origin()
        return copy
    if len(gpus) == 1:
        return _copied(index, 0, gpus[0])
    layer = next(layers(index))
    if isinstance(layer, faiss.IndexIDMap):
        inner, rows = unmapped(layer)
        return numbered(spread(inner, gpus), np.array(rows))
    if isinstance(layer, faiss.IndexPreTransform):
        around = faiss.IndexPreTransform(spread(layer.index, gpus))
        for i in reversed(range(layer.chain.size())):
            around.prepend_transform(faiss.Cloner().clone_VectorTransform(layer.chain.at(i)))
        return around
    with suppress(RuntimeError):
        return _replicated(layer, gpus)
    shared_out = _sharded(layer, gpus)
    log.info("The vectors are shared out among %d GPUs: one has no room for all.", len(gpus))
    return shared_out


def origin(index: faiss.Index) -> faiss.Index | None:
    """Return the index on the CPU that CAGRA on a GPU is a copy of; None for others."""
    is_copy = any(map(is_cagra, layers(index)))
    return index.referenced_objects[0] if is_copy else None


def _replicated(index: faiss.Index, gpus: list[int]) -> faiss.Index:
    replicas = faiss.IndexReplicas(index.d)
    for copy in [_copied(index, place, gpu) for place, gpu in enumerate(gpus)]:
        replicas.addIndex(copy)
    return replicas


def _sharded(index: faiss.Index, gpus: list[int]) -> faiss.Index:
    bounds = np.linspace(0, index.ntotal, len(gpus) + 1).astype(int).tolist()
    shards = [
        _copied(_part(index, *bounds[place : place + 2]), place, gpu)
        for place, gpu in enumerate(gpus)
    ]
    threaded, successive_ids = True, isinstance(index, faiss.IndexFlat)
    together = faiss.IndexShards(index.d, threaded, successive_ids)
    for shard in shards:
        together.add_shard(shard)
    return together


def _part(index: faiss.Index, start: int, stop: int) -> faiss.Index:
    """Return an index of the vectors start..stop - 1 alone; in lists they keep their numbers."""
    if isinstance(index, faiss.IndexFlat):
        part = faiss.IndexFlat(index.d, index.metric_type)
        part.add(index.reconstruct_n(start, stop - start))
        return part
    lists = (index.quantizer, index.d, index.nlist)
    if isinstance(index, faiss.IndexIVFPQ):
        part = faiss.IndexIVFPQ(*lists, index.pq.M, index.pq.nbits, index.metric_type)
        part.pq, part.by_residual = index.pq, index.by_residual
    elif isinstance(index, faiss.IndexIVFScalarQuantizer):
        part = faiss.IndexIVFScalarQuantizer(
            *lists, index.sq.qtype, index.metric_type, index.by_residual
        )
        part.sq = index.sq
    else:
        part = faiss.IndexIVFFlat(*lists, index.metric_type)
    part.is_trained, part.nprobe = True, index.nprobe
    index.copy_subset_to(part, faiss.InvertedLists.SUBSET_TYPE_ID_RANGE, start, stop)
    return part


def _copied(index: faiss.Index, place: int, gpu: int) -> faiss.Index:
    return faiss.index_cpu_to_gpu(gpu_resources(place), gpu, index)


@functools.cache
def gpu_resources(place: int) -> Any:
    """Scratch memory, reserved once for all indexes at a place in the list of GPUs."""
    return faiss.StandardGpuResources()
