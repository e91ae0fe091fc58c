"""Which index to build for so many vectors, so much memory and such a recall, and why.

The rules come from measurements, of a million vectors with a modality gap and text-like queries, and of
a photo encoder's vectors; benchmarks/suites/indexes.py races what they choose against others. With as
many codes read, a second list for vectors at a border (SOAR) found fewer of the best, not more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from indexes.errors import SpecError
from indexes.sample import fewest_to_learn_from

_EXACT_MS = 50  # a search that takes no longer feels immediate
_READ_PER_MS = 16e6  # bytes that two cores of a server read and multiply in a millisecond

# What remains after that many leading dimensions, refining brings back; fewer lose too much of it.
_PROJECTED_SHARE, _PROJECTED_AT_LEAST = 8, 64
_LISTS_PER_ROOT = 4  # times sqrt(n): a few hundred vectors a list
_GRAPH_FROM = 16_384  # lists: to compare a query with as many costs more than to read a few of them
_ROW_NUMBER = 8  # bytes that FAISS keeps for each vector beside its code
_STARTS = ((0.9, 16, 3), (0.95, 32, 4), (0.99, 96, 8), (1.0, 256, 16))  # recall, nprobe, refine


@dataclass(frozen=True)
class Choice:
    """An index to build: a spec's fields, about how many bytes it takes, and why."""

    factory: str
    nprobe: int | None
    refine: int | None
    nbytes: int
    reasons: tuple[str, ...]


def choose(n: int, dim: int, memory: int | None, target_recall: float) -> Choice:
    """Return what IndexSpec.suggest() says. Raises SpecError as that does."""
    least = {"n": (n, 0), "dim": (dim, 1), "memory": (1 if memory is None else memory, 1)}
    for name, (value, lowest) in least.items():
        if not isinstance(value, int) or value < lowest:
            raise SpecError(f"{name} must be a whole number of at least {lowest}, got {value!r}.")
    if not 0 < target_recall <= 1:
        raise SpecError(f"target_recall must be above 0 and at most 1, got {target_recall!r}.")
    exact_ms = _exact_ms(n, dim)
    if exact_ms <= _EXACT_MS or target_recall == 1:
        return Choice("Flat", None, None, 0, _why_exact(n, exact_ms))
    choices = [coded(n, dim, parts, target_recall) for parts in _parts(dim)]
    training = _training_bytes(n, dim)
    for one in choices:
        if memory is None or max(one.nbytes, training) <= memory:
            return one
    raise SpecError(
        f"{_shown(memory or 0)} is too little for an index of {n:,} vectors: the smallest takes "
        f'{_shown(max(choices[-1].nbytes, training))}. Allow that much, or choose "Flat", which takes nothing '
        f"and about {exact_ms:,.0f} ms a query."
    )


def coded(n: int, dim: int, parts: int | None = None, target_recall: float = 0.95) -> Choice:
    """Return lists of small codes, to be refined, for any number of vectors.

    parts  4-bit parts of a code; None: the most accurate
    """
    parts = parts or next(_parts(dim))
    projected, lists = _projected(dim), _lists(n)
    nprobe, refine = next(start for recall, *start in _STARTS if target_recall <= recall)
    factory = [] if projected == dim else [f"PCA{projected}"]
    factory += [f"IVF{lists}" + ("_HNSW32" if lists >= _GRAPH_FROM else ""), f"PQ{parts}x4fsr"]
    refine *= projected // parts  # coarser codes need more of it
    nprobe, nbytes = min(nprobe, lists), _nbytes(n, dim, parts)
    kept = "" if projected == dim else f" of the {projected} strongest of {dim} dimensions"
    reasons = (
        f"Comparing a query with all {n:,} vectors would take about {_exact_ms(n, dim):,.0f} ms.",
        f"The vectors lie in {lists:,} lists of about {max(1, n // lists):,}, of which a search "
        f"visits {nprobe} at first; tune it with queries of your own.",
        f"There it reads codes of {_code_bytes(parts)} bytes a vector{kept}.",
        f"For each result it compares {refine} candidates anew with the stored vectors "
        "themselves, so that scores are exact.",
        f"The index takes about {_shown(nbytes)} beside the stored vectors.",
    )
    return Choice(",".join(factory), nprobe, refine, nbytes, reasons)


def _exact_ms(n: int, dim: int) -> float:
    return 2 * n * dim / _READ_PER_MS


def _projected(dim: int) -> int:
    """How many leading dimensions to keep: an eighth, in whole eights, and at least 64."""
    return min(dim, max(_PROJECTED_AT_LEAST, -(-dim // _PROJECTED_SHARE) // 8 * 8))


def _parts(dim: int) -> Iterator[int]:
    """4-bit parts of a code: one for each dimension kept; then for two, for four."""
    projected = _projected(dim)
    return (projected // each for each in (1, 2, 4) if projected % each == 0)


def _lists(n: int) -> int:
    """A power of two near 4 sqrt(n)."""
    return 2 ** round(math.log2(max(1, _LISTS_PER_ROOT * n**0.5)))


def _code_bytes(parts: int) -> int:
    return -(-parts // 2)


def _nbytes(n: int, dim: int, parts: int) -> int:
    code = _code_bytes(parts)
    padding = 16 * code * _lists(n)  # lists come in blocks of 32
    matrices = 4 * _projected(dim) * (_lists(n) + dim)
    graph = 4 * 2 * 32 * _lists(n) if _lists(n) >= _GRAPH_FROM else 0
    return n * (code + _ROW_NUMBER) + padding + matrices + graph


def _training_bytes(n: int, dim: int) -> int:
    """The smallest sample to learn the projection from, twice, or, projected, the lists from."""
    projected, lists = _projected(dim), _lists(n)
    whole = 0 if projected == dim else 2 * dim * fewest_to_learn_from(n, 1)
    return 4 * max(whole, projected * fewest_to_learn_from(n, lists))


def _why_exact(n: int, exact_ms: float) -> tuple[str, ...]:
    return (
        f"Comparing a query with all {n:,} vectors takes about {max(1, exact_ms):,.0f} ms, and "
        "finds the true best.",
        "It reads the stored vectors where they lie: there is nothing to build, and no memory to "
        "allow for.",
    )


def _shown(nbytes: int) -> str:
    return f"{nbytes / 1e9:,.1f} GB" if nbytes >= 1e9 else f"{max(nbytes, 1e5) / 1e6:,.1f} MB"
