"""Which index to build for so many vectors, so much memory and such a recall, and why."""

from __future__ import annotations

from dataclasses import dataclass

from indexes.errors import SpecError
from indexes.matches import checked_count
from indexes.spec import IndexSpec

_EXACT_MS = 50  # a search that takes no longer feels immediate
_READ_PER_MS = 16e6  # bytes: what two cores of a server read and multiply in a millisecond

_PROJECTED = 128  # dimensions of the codes: what lies beyond is noise, and refining brings it back
_LISTS_PER_ROOT = 4  # times sqrt(n): lists of some hundred vectors
_GRAPH_FROM = 16384  # lists: with as many, finding them costs more than reading them, but by a graph
_ROW_NUMBER = 8  # bytes that FAISS keeps for each vector beside its code
_FEWEST_PARTS = 8  # of a code; fewer say too little about a vector


@dataclass(frozen=True)
class Suggestion:
    """An index to build.

    spec     where to start: tuning with queries of your own finds the point for a recall
    nbytes   about what the index takes, beside the stored vectors, which lie on the disk
    reasons  sentences for people
    """

    spec: IndexSpec
    nbytes: int
    reasons: tuple[str, ...]


def suggest(
    n: int, dim: int, *, memory: int | None = None, target_recall: float = 0.95
) -> Suggestion:
    """Return what to build over n stored float16 vectors of dim dimensions.

    memory         bytes that the index may take, beside the stored vectors; None: as it needs
    target_recall  share of the true best results that a search should find, above 0, at most 1

    Raises SpecError on a recall out of range, or if `memory` is too little for any index that is
    faster than exact search; VectorIndexError on a count below 1.
    """
    dim = checked_count(dim, "dim")
    if not 0 < target_recall <= 1:
        raise SpecError(f"target_recall must lie above 0 and at most at 1, got {target_recall!r}.")
    exact_ms = 2 * n * dim / _READ_PER_MS
    if exact_ms <= _EXACT_MS or target_recall == 1:
        return Suggestion(IndexSpec("Flat"), 0, _why_exact(n, exact_ms))
    fitting = [
        (spec, taken)
        for spec in map(lambda parts: coded_spec(n, dim, target_recall, parts), _parts(dim))
        if (taken := _nbytes(spec, n, dim)) <= (memory or taken)
    ]
    if not fitting:
        least = min(_nbytes(coded_spec(n, dim, target_recall, parts), n, dim) for parts in _parts(dim))
        raise SpecError(
            f"No index of {n:,} vectors fits into {_shown(memory or 0)}; the smallest takes "
            f'{_shown(least)}. Allow as much, or search without: "Flat" takes nothing, and about '
            f"{exact_ms:.0f} ms a query."
        )
    spec, taken = fitting[0]
    return Suggestion(spec, taken, _why_coded(spec, n, dim, taken, exact_ms, memory, target_recall))


def _why_exact(n: int, exact_ms: float) -> tuple[str, ...]:
    return (f"{n:,} vectors are searched exactly in about {exact_ms:.0f} ms.",)
