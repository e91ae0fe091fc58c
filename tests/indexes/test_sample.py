from __future__ import annotations

import pytest

from indexes.sample import fewest_to_learn_from, sample_size


@pytest.mark.parametrize(
    ("n", "centroids", "memory", "size"),
    [
        (10**7, 1, None, 65536),
        (10**7, 1024, None, 65536),
        (10**7, 4096, None, 64 * 4096),
        (50_000, 4096, None, 50_000),
        (10**7, 4096, 10**12, 64 * 4096),  # more than is of use
        (10**7, 4096, 200_000_000, 200_000),
        (10**7, 4096, 100_000_000, 39 * 4096),  # never fewer
        (10**7, 16, 1, 4096),
        (3000, 16, 1, 3000),
    ],
)
def test_as_many_as_are_of_use_and_as_memory_allows(
    n: int, centroids: int, memory: int | None, size: int
) -> None:
    assert sample_size(n, centroids, 1000, memory) == size


def test_the_fewest() -> None:
    assert [fewest_to_learn_from(n, 1000) for n in (10, 38_999, 10**6)] == [10, 38_999, 39_000]
    assert fewest_to_learn_from(10**6, 105) == 4096
