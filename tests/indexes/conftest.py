from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from indexes.device import cap_threads

UnitVectors = Callable[..., np.ndarray]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The work is tiny: more threads would only wait for each other."""
    cap_threads(1)
    yield


@pytest.fixture(scope="session")
def unit_vectors() -> UnitVectors:
    """unit_vectors(n, d, seed) -> float32 (n, d), unit rows."""

    def draw(n: int, d: int = 32, seed: int = 0) -> np.ndarray:
        vectors = np.random.default_rng(seed).standard_normal((n, d))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return draw


@pytest.fixture(scope="session")
def corpus(unit_vectors: UnitVectors) -> np.ndarray:
    return unit_vectors(600, seed=1)  # (600, 32)


@pytest.fixture(scope="session")
def queries(unit_vectors: UnitVectors) -> np.ndarray:
    return unit_vectors(20, seed=2)  # (20, 32)


# The second numbering leaves gaps, as deleted rows do.
NUMBERINGS = {"all rows": None, "rows left out": np.arange(600, dtype=np.int64) * 3 + 5}


@pytest.fixture(scope="module", params=NUMBERINGS, ids=str)
def rows(request: pytest.FixtureRequest) -> np.ndarray | None:
    return NUMBERINGS[request.param]
