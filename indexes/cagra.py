"""CAGRA: a graph that a GPU builds and searches, and that the CPU searches as an HNSW graph.

FAISS has it in its build with cuVS, and no factory string for it: here that is "CAGRA32", with the
number of links of each vector. What is held and saved is FAISS's IndexHNSWCagra, which every build
opens and adds to; where there is a GPU, a copy answers there.
"""

from __future__ import annotations

import re

import faiss
import numpy as np

from indexes.errors import SpecError

# The neighbours to choose from are found with IVF-PQ, which takes many vectors; few need no GPU.
LEAST = 1024
ITOPK = 64  # candidates, unless a search names others: FAISS's own
MAX_K = 1024  # cuVS's limit; for more the CPU answers
_LINKS = range(4, 129, 2)  # an HNSW graph has an even number on its lowest level; cuVS takes up to 224


def links_of(factory: str) -> int | None:
    """Return the links of each vector that "CAGRA32" asks for; None for what is no CAGRA.

    Raises SpecError on a number that cannot be had.
    """
    found = re.fullmatch(r"CAGRA(\d+)", factory)
    if found is None:
        return None
    links = int(found[1])
    if links not in _LINKS:
        raise SpecError(
            f'"{factory}" asks for {links} links of each vector; CAGRA takes an even number from '
            f"{_LINKS[0]} to {_LINKS[-1]}."
        )
    return links


def empty_graph(dim: int, links: int) -> faiss.IndexHNSWCagra:
    """Return a graph without vectors; those added to it are linked by the CPU, as in HNSW."""
    return faiss.IndexHNSWCagra(dim, links // 2, faiss.METRIC_INNER_PRODUCT)


def is_cagra(layer: faiss.Index) -> bool:
    """Whether a layer is such a graph, on the CPU or on a GPU."""
    return isinstance(layer, faiss.IndexHNSWCagra) or is_cagra_on_gpu(layer)


def is_cagra_on_gpu(layer: faiss.Index) -> bool:
    """Whether a layer is the copy of such a graph that answers on a GPU."""
    return hasattr(faiss, "GpuIndexCagra") and isinstance(layer, faiss.GpuIndexCagra)


def missing() -> str | None:
    """Return what this build of FAISS lacks for CAGRA on a GPU; None if nothing."""
    if hasattr(faiss, "GpuIndexCagra"):
        return None
    return "this build of FAISS has no CAGRA (install faiss-gpu-cuvs in place of faiss-gpu)"


def graph_by_gpu(
    vectors: np.ndarray, links: int, resources: faiss.GpuResources, gpu: int
) -> faiss.IndexHNSWCagra:
    """Return the graph over vectors (n, d) float32, n >= LEAST, built on a GPU and copied to the CPU.

    Raises RuntimeError if FAISS cannot.
    """
    config = faiss.GpuIndexCagraConfig()
    config.device = gpu
    config.graph_degree, config.intermediate_graph_degree = links, 2 * links  # as cuVS advises
    built = faiss.GpuIndexCagra(resources, vectors.shape[1], faiss.METRIC_INNER_PRODUCT, config)
    built.train(vectors)
    graph = faiss.IndexHNSWCagra()
    built.copyTo(graph)  # reads the vectors once more, from where train() had them
    return graph
