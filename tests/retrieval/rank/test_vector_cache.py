import numpy as np
import pytest

from retrieval.errors import RerankError
from retrieval.rank.vector_cache import VectorCache

HALVES = np.array([0.5, -0.25, 0.125], np.float32)  # exact in float16


def test_what_is_kept_is_found_again(tmp_path):
    VectorCache(tmp_path / "rerank", "one", (3,)).put({"a": HALVES, "b": 2 * HALVES})
    found = VectorCache(tmp_path / "rerank", "one", (3,)).get(["b", "nothing", "a"])
    assert found.keys() == {"a", "b"} and found["a"].dtype == np.float32
    np.testing.assert_array_equal(found["a"], HALVES)
    np.testing.assert_array_equal(found["b"], 2 * HALVES)


def test_more_than_sqlite_takes_at_once(tmp_path):
    cache = VectorCache(tmp_path, "one", (1,))
    cache.put({str(number): np.array([number], np.float32) for number in range(1200)})
    found = cache.get([str(number) for number in range(1300)])
    assert {name: float(one[0]) for name, one in found.items()} == {str(n): n for n in range(1200)}


def test_each_encoder_has_its_own(tmp_path):
    VectorCache(tmp_path, "one/x", (3,)).put({"a": HALVES})
    assert VectorCache(tmp_path, "two", (3,)).get(["a"]) == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one_x.sqlite"]


def test_a_table_of_numbers_keeps_its_shape(tmp_path):
    cache = VectorCache(tmp_path, "grid", (2, 3))
    cache.put({"a": np.stack([HALVES, -HALVES])})
    np.testing.assert_array_equal(cache.get(["a"])["a"], np.stack([HALVES, -HALVES]))


def test_damage_says_what_to_do(tmp_path):
    cache = VectorCache(tmp_path, "one", (3,))
    (tmp_path / "one.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(RerankError, match="one.sqlite cannot be used .* Delete it"):
        cache.get(["a"])


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RerankError, match="file.* cannot be written: .*RETRIEVAL_CACHE"):
        VectorCache(tmp_path / "file" / "rerank", "one", (3,)).put({"a": HALVES})
