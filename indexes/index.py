"""VectorIndex: a FAISS index that checks what goes in and makes sense of what comes out."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import Any

import faiss
import numpy as np

from indexes.cagra import MAX_K, is_cagra_on_gpu
from indexes.device import GPU_MAX_K, gpu_lock, to_device
from indexes.errors import SpecError, VectorIndexError
from indexes.filtered import search_allowed
from indexes.layers import is_on_gpu, layers, takes_ef_search, takes_nprobe
from indexes.matches import Matches, checked_count, no_matches, ranked, too_short
from indexes.parameters import nprobe_in_parts, search_parameters
from indexes.scan import scan
from indexes.spec import IndexSpec
from indexes.vectors import as_queries

__all__ = ["Matches", "VectorIndex"]


class VectorIndex:
    """A built index, to be searched. Made by build_index and load_index.

    Searches may run in several threads at once; on a GPU they take turns.
    """

    def __init__(self, faiss_index: faiss.Index, spec: IndexSpec) -> None:
        self.faiss_index = faiss_index  # for what this class does not cover
        self._spec = spec
        self._on_gpu = is_on_gpu(faiss_index)

    def __repr__(self) -> str:
        return f'VectorIndex("{self.spec.factory}", n={self.n}, dim={self.dim}, {self.device})'

    @property
    def n(self) -> int:
        """How many vectors the index holds."""
        return int(self.faiss_index.ntotal)

    @property
    def dim(self) -> int:
        """How many dimensions a vector has."""
        return int(self.faiss_index.d)

    @property
    def spec(self) -> IndexSpec:
        """What the index was built from."""
        return self._spec

    @property
    def device(self) -> str:
        """Where the index runs: "cpu" or "gpu"."""
        return "gpu" if self._on_gpu else "cpu"

    @property
    def rows(self) -> np.ndarray:
        """The row numbers that the index holds, ascending. (n,) int64"""
        if isinstance(self.faiss_index, faiss.IndexIDMap):
            return faiss.vector_to_array(self.faiss_index.id_map)
        return np.arange(self.n)

    @property
    def nbytes(self) -> int:
        """How many bytes the index takes as FAISS writes it. It is written to nowhere, each time.

        An index on a GPU is copied to the CPU first.
        """
        total = 0

        def count(chunk: bytes) -> None:
            nonlocal total
            total += len(chunk)

        faiss.write_index(to_device(self.faiss_index, "cpu"), faiss.PyCallbackIOWriter(count))
        return total

    def on(self, device: str) -> VectorIndex:
        """Return the index on "cpu", "gpu", or where it is best ("auto"). Raises VectorIndexError."""
        moved = to_device(self.faiss_index, device)
        return self if moved is self.faiss_index else VectorIndex(moved, self.spec)

    def with_spec(self, spec: IndexSpec) -> VectorIndex:
        """Return the index with other search parameters."""
        return VectorIndex(self.faiss_index, spec)

    def search(
        self,
        queries: Any,
        k: int,
        *,
        nprobe: int | None = None,
        ef_search: int | None = None,
        allowed: Any = None,
        enough: int | None = None,
    ) -> Matches:
        """Return the k highest-scoring rows for each query.

        queries    (q, d) float32, unit rows
        k          results per query, at least 1; on a GPU at most 2048
        nprobe     inverted lists visited; None uses the spec's value
        ef_search  candidates kept while walking the graph; None uses the spec's value
        allowed    (m,) bool by row number, m above every row: which may be found; None allows all.
                   See search_allowed() for how. On the CPU
        enough     results with which a query is content; one that finds fewer, as where few lists
                   are visited, is compared with everything. None is k; 0 shows what nprobe finds

        Returns Matches: scores (q, k) descending in [-1, 1], rows (q, k) with equal scores by
        lower row; -1 and -inf pad where there are fewer than k rows. A quantiser (SQ, PQ) gives the score of the
        vector as stored. Which of several equal scores reach the k-th place is FAISS's choice.
        Raises DimensionError if d differs from the index, VectorError on unfit queries,
        SpecError on a search parameter that means nothing to this index, VectorIndexError on
        a k out of range or an `allowed` of another type or too short.
        """
        queries = as_queries(queries, self.dim)  # (q, d)
        k = checked_count(k, "k")
        nprobe = self._setting("nprobe", nprobe, takes_nprobe)
        ef_search = self._setting("ef_search", ef_search, takes_ef_search)
        wanted = min(k, self.n)
        enough = wanted if enough is None else min(enough, wanted)
        if wanted == 0 or len(queries) == 0:
            return no_matches(len(queries), k)
        if allowed is not None:
            found = search_allowed(
                self._on_cpu, queries, wanted, allowed, nprobe, ef_search, enough
            )
            return _matches(*found, k)
        if wanted > MAX_K and any(map(is_cagra_on_gpu, layers(self.faiss_index))):
            return self.on("cpu").search(queries, k, ef_search=ef_search, enough=enough)
        if self._on_gpu and max(wanted, nprobe or 1) > GPU_MAX_K:
            raise VectorIndexError(
                f"An index on a GPU searches with k and nprobe up to {GPU_MAX_K}, got k={k}, "
                f"nprobe={nprobe}. Ask for fewer, or open the index with device cpu."
            )
        params = search_parameters(self.faiss_index, nprobe, ef_search, k=wanted)
        with gpu_lock if self._on_gpu else nullcontext(), nprobe_in_parts(self.faiss_index, nprobe):
            scores, rows = self.faiss_index.search(queries, wanted, params=params)  # (q, wanted)
        short = too_short(rows, enough)
        if len(short):
            scores[short], rows[short] = scan(self._on_cpu, queries[short], wanted)
        return _matches(scores, rows, k)

    def search_exhaustively(self, queries: Any, k: int) -> Matches:
        """Return the k highest-scoring rows for each query, visiting everything in the index.

        All lists of an IVF index are visited, and all vectors of an HNSW graph; vectors that a
        search would refine with (RFlat) are compared themselves. So what exact search finds and
        this does not is lost by quantisation (or PCA), and what search() misses of this is lost
        by visiting too little. As slow as that sounds; an index on a GPU is copied to the CPU.

        queries  (q, d) float32, unit rows
        k        results per query, at least 1

        Returns Matches as search() does.
        Raises DimensionError if d differs from the index, VectorError on unfit queries,
        VectorIndexError on k < 1.
        """
        queries = as_queries(queries, self.dim)  # (q, d)
        k = checked_count(k, "k")
        wanted = min(k, self.n)
        if wanted == 0 or len(queries) == 0:
            return no_matches(len(queries), k)
        scores, rows = scan(self._on_cpu, queries, wanted)  # (q, wanted)
        return _matches(scores, rows, k)

    @cached_property
    def _on_cpu(self) -> faiss.Index:
        """The index, or a copy of one on a GPU: for what GPUs cannot do."""
        with gpu_lock if self._on_gpu else nullcontext():
            return to_device(self.faiss_index, "cpu")

    def _setting(self, name: str, asked: int | None, applies: Any) -> int | None:
        """Return the value to search with: what was asked for, or else the spec's."""
        if asked is None:
            return getattr(self.spec, name)
        value = checked_count(asked, name, SpecError)
        if not applies(self.faiss_index):
            raise SpecError(f'{name} means nothing to "{self.spec.factory}"; leave it out.')
        return value


def _matches(scores: np.ndarray, rows: np.ndarray, k: int) -> Matches:
    """Return what FAISS found as Matches. scores, rows (q, <= k)"""
    np.clip(scores, -1, 1, out=scores)  # rounding and quantisers overshoot a little
    scores[rows < 0] = -np.inf  # FAISS pads with -3.4e38
    return ranked(scores, rows, k)
