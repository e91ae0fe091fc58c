"""IndexSpec: which index to build and how to search it, in the words FAISS users know."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indexes.errors import SpecError

if TYPE_CHECKING:
    import faiss

METRICS = ("inner_product",)
_EXAMPLES = '"Flat" (exact), "SQfp16" (half the memory), "IVF256,Flat", "HNSW32"'


@dataclass(frozen=True)
class IndexSpec:
    """What to build, and the search parameters to use unless a search names others.

    factory    FAISS factory string; github.com/facebookresearch/faiss/wiki/The-index-factory
               Also "CAGRA32", the GPU's own graph with so many links of each vector: see cagra.py
    metric     "inner_product", which is the cosine for unit vectors
    nprobe     inverted lists visited by an IVF index; None leaves FAISS's own value, 1
    ef_search  candidates kept while walking a graph, HNSW or CAGRA; None leaves FAISS's own value,
               16, or 64 on a GPU
    refine     candidates for each result, which are compared anew with the vectors themselves:
               see RefinedIndex; None takes the codes' word
    seed       of the training sample and of k-means

    Raises SpecError on a wrong type, an unknown metric, or a count below 1. Whether FAISS knows
    the factory string depends on the dimension: see validate().
    """

    factory: str = "Flat"
    metric: str = "inner_product"
    nprobe: int | None = None
    ef_search: int | None = None
    seed: int = 0
    refine: int | None = None

    def __post_init__(self) -> None:
        for name in ("factory", "metric"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise SpecError(f"{name} must be a string, got {value!r}.")
        for name in ("nprobe", "ef_search", "refine"):
            value = getattr(self, name)
            if value is not None and (not _is_int(value) or value < 1):
                raise SpecError(
                    f"{name} must be a whole number of at least 1, or None, got {value!r}."
                )
        if not _is_int(self.seed) or self.seed < 0:
            raise SpecError(f"seed must be a whole number of at least 0, got {self.seed!r}.")
        if self.metric not in METRICS:
            raise SpecError(
                f'metric "{self.metric}" is not supported; use "{METRICS[0]}", which is the '
                "cosine for unit vectors."
            )

    @staticmethod
    def suggest(
        n: int, dim: int, *, memory: int | None = None, target_recall: float = 0.95
    ) -> Suggestion:
        """Return what to build over n stored float16 vectors of dim dimensions, and why.

        memory         bytes that the index, and building it, may take beside the stored vectors;
                       None: what it needs
        target_recall  share of the true best that a search should find, above 0; 1 is exact search

        Raises SpecError on a recall out of range, a count that is none, or if `memory` is too
        little for any index where exact search would be slow.
        """
        from indexes.suggest import choose  # here, as a spec can be read without numpy

        chosen = choose(n, dim, memory, target_recall)
        spec = IndexSpec(chosen.factory, nprobe=chosen.nprobe, refine=chosen.refine)
        return Suggestion(spec, chosen.nbytes, chosen.reasons)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict that JSON can hold."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> IndexSpec:
        """Return the spec that to_dict described. Raises SpecError on unknown keys or types."""
        if not isinstance(fields, dict):
            raise SpecError(f"An index spec must be a mapping, got {type(fields).__name__}.")
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(str(key) for key in fields if key not in known)
        if unknown:
            raise SpecError(
                f"An index spec has no {', '.join(unknown)}; it has {', '.join(known)}."
            )
        return cls(**fields)

    def validate(self, dim: int) -> None:
        """Raise SpecError unless FAISS can build this index for dim-dimensional vectors."""
        self.empty_index(dim)

    def empty_index(self, dim: int) -> faiss.Index:
        """Return the empty, untrained FAISS index. Raises SpecError as validate() does."""
        import faiss  # here, so that a spec can be read without loading FAISS

        from indexes.layers import layers, takes_ef_search, takes_nprobe

        if re.search(r"[A-Za-z]0(?!\d)|HNSW1(?!\d)", self.factory):
            # FAISS accepts some of these, and ends the process when the first vector is added.
            raise SpecError(f'"{self.factory}" asks for too few lists, links or parts to work.')
        index = self._made(dim)
        for layer in layers(index):
            if isinstance(layer, faiss.IndexIDMap):
                raise SpecError(
                    f'"{self.factory}" names an IDMap: leave it out and pass rows= to build_index.'
                )
            if layer.metric_type != faiss.METRIC_INNER_PRODUCT:  # HNSW32_PQ8 falls back to L2
                raise SpecError(self._no_inner_product())
            if isinstance(layer, faiss.IndexIVFAdditiveQuantizerFastScan):
                raise SpecError(
                    f'"{self.factory}" takes no nprobe and no filter from FAISS: there is no "fs" with '
                    'lists for RQ, LSQ, PRQ and PLSQ. Leave "fs" out, or take PQ, as in "IVF256,PQ16x4fs".'
                )
        if self.nprobe is not None and not takes_nprobe(index):
            raise SpecError(
                f'nprobe={self.nprobe} means nothing to "{self.factory}": only IVF indexes have '
                "lists to probe. Leave it None."
            )
        if self.ef_search is not None and not takes_ef_search(index):
            raise SpecError(
                f'ef_search={self.ef_search} means nothing to "{self.factory}": only HNSW indexes '
                "and CAGRA walk a graph. Leave it None."
            )
        return index

    def _made(self, dim: int) -> faiss.Index:
        import faiss

        from indexes.cagra import empty_graph, links_of

        links = links_of(self.factory)
        if links is not None:
            return empty_graph(dim, links)
        try:
            return faiss.index_factory(dim, self.factory, faiss.METRIC_INNER_PRODUCT)
        except (RuntimeError, MemoryError) as error:
            raise SpecError(self._explain(str(error), dim)) from None

    def _explain(self, faiss_says: str, dim: int) -> str:
        """Say in our words what FAISS says in C++."""
        if "multiple of the number of subquantizers" in faiss_says:
            return (
                f'"{self.factory}" cuts each vector into equal parts, and {dim} dimensions cannot '
                f"be cut so. Choose a number of PQ parts that divides {dim}."
            )
        if "METRIC_L2" in faiss_says or "inner prod" in faiss_says:
            return self._no_inner_product()
        return f'"{self.factory}" is not a FAISS factory string. Examples: {_EXAMPLES}.'

    def _no_inner_product(self) -> str:
        return f'"{self.factory}" cannot rank by inner product. Use for instance {_EXAMPLES}.'


@dataclass(frozen=True)
class Suggestion:
    """An index to build.

    spec     where to start: tuning with queries of one's own finds the point for a recall
    nbytes   about what the index takes beside the stored vectors, which lie on the disk
    reasons  sentences for people
    """

    spec: IndexSpec
    nbytes: int
    reasons: tuple[str, ...]


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
