import numpy as np
import pytest

from retrieval.errors import CollectionError
from retrieval.vectors import HEADER_BYTES, VectorStore

DIM = 8


def unit(n, seed=0, dim=DIM):
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "vectors"


@pytest.fixture
def store(folder):
    """Shards of four rows."""
    return VectorStore(folder, DIM, 0, shard_rows=4)


def commit(store, vectors):
    rows = store.append(vectors)
    store.n += len(rows)
    return rows


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestAppending:
    def test_across_shard_borders(self, store, folder):
        vectors = unit(11)
        assert commit(store, vectors[:3]) == range(0, 3)
        assert commit(store, vectors[3:10]) == range(3, 10)
        assert commit(store, vectors[10:]) == range(10, 11)
        assert names(folder) == ["00000.npy", "00001.npy", "00002.npy"]
        assert (len(store), store.shape) == (11, (11, DIM))
        np.testing.assert_array_equal(store[0:11], vectors.astype(np.float16))

    def test_a_full_shard_is_not_touched_again(self, store, folder):
        commit(store, unit(4))
        before = (folder / "00000.npy").read_bytes()
        commit(store, unit(2, seed=1))
        assert (folder / "00000.npy").read_bytes() == before

    def test_nothing_to_append(self, store, folder):
        assert store.append(np.empty((0, DIM), np.float32)) == range(0, 0)
        assert not folder.exists()

    def test_another_store_goes_on_where_the_first_ended(self, store, folder):
        vectors = unit(7)
        commit(store, vectors[:3])
        again = VectorStore(folder, DIM, 3, shard_rows=4)
        assert commit(again, vectors[3:]) == range(3, 7)
        np.testing.assert_array_equal(again[0:7], vectors.astype(np.float16))

    def test_rows_read_before_an_append_are_read_again_after_it(self, store):
        vectors = unit(4)
        commit(store, vectors[:2])
        np.testing.assert_array_equal(store[0:2], vectors[:2].astype(np.float16))
        commit(store, vectors[2:])
        np.testing.assert_array_equal(store[0:4], vectors.astype(np.float16))


class TestLeftovers:
    """Rows behind the committed count: an append that no commit followed."""

    def test_they_are_not_read(self, store, folder):
        vectors = unit(9)
        commit(store, vectors[:3])
        store.append(vectors[3:])
        again = VectorStore(folder, DIM, 3, shard_rows=4)
        np.testing.assert_array_equal(again[0:100], vectors[:3].astype(np.float16))

    def test_they_are_written_over_and_cut_off(self, store, folder):
        first, lost, second = unit(3), unit(5, seed=1), unit(2, seed=2)
        commit(store, first)
        store.append(lost)
        again = VectorStore(folder, DIM, 3, shard_rows=4)
        assert commit(again, second) == range(3, 5)
        expected = np.concatenate([first, second]).astype(np.float16)
        np.testing.assert_array_equal(again[0:5], expected)
        np.testing.assert_array_equal(np.load(folder / "00000.npy"), expected[:4])
        np.testing.assert_array_equal(np.load(folder / "00001.npy"), expected[4:])
        assert (folder / "00001.npy").stat().st_size == HEADER_BYTES + DIM * 2


class TestFormat:
    def test_numpy_reads_a_shard(self, store, folder):
        vectors = unit(6)
        commit(store, vectors[:5])
        commit(store, vectors[5:])
        for shard, expected in (("00000.npy", vectors[:4]), ("00001.npy", vectors[4:])):
            for mode in (None, "r"):
                read = np.load(folder / shard, mmap_mode=mode)
                assert read.dtype == np.float16
                np.testing.assert_array_equal(read, expected.astype(np.float16))

    def test_numpy_reads_a_wide_and_long_shard(self, folder):
        vectors = unit(1000, dim=1536)
        commit(VectorStore(folder, 1536, 0), vectors)
        np.testing.assert_array_equal(np.load(folder / "00000.npy"), vectors.astype(np.float16))

    def test_half_precision_bounds(self, folder):
        vectors = unit(500, dim=512)
        store = VectorStore(folder, 512, 0)
        commit(store, vectors)
        # Half a unit in the last of 11 binary digits, or of the smallest float16.
        error = np.abs(store[0:500].astype(np.float32) - vectors)
        assert (error <= np.maximum(np.abs(vectors) * 2**-11, 2**-25)).all()
        cosines = np.einsum("nd,nd->n", store.take(np.arange(500)), vectors)
        assert cosines.min() > 1 - 1e-6


class TestReading:
    def test_slices(self, store):
        vectors = unit(10)
        commit(store, vectors)
        halves = vectors.astype(np.float16)
        for rows in (slice(2, 9), slice(4, 8), slice(None), slice(-3, None), slice(5, 5), slice(8, 99)):
            np.testing.assert_array_equal(store[rows], halves[rows])

    def test_a_slice_of_one_shard_is_not_copied(self, store):
        commit(store, unit(11))
        assert np.shares_memory(store[4:8], store[5:7])
        assert not np.shares_memory(store[2:6], store[2:4])

    def test_only_contiguous_slices(self, store):
        commit(store, unit(4))
        with pytest.raises(ValueError, match="contiguous"):
            store[::2]

    def test_take_keeps_the_order_asked_for(self, store):
        vectors = unit(10)
        commit(store, vectors)
        rows = np.array([9, 0, 5, 5, 3, 8])
        taken = store.take(rows)
        assert taken.dtype == np.float32
        np.testing.assert_allclose(taken, vectors[rows], atol=5e-4)

    def test_halves_are_taken_into_room_that_is_there(self, store):
        vectors = unit(10)
        commit(store, vectors)
        for rows in ([9, 0, 4, 4, 7], [0, 2, 3, 4, 9], [6, 4, 5]):  # shards apart, in ascending order, of one shard
            room = np.zeros((len(rows), DIM), np.float16)
            assert store.take_halves(np.array(rows), room) is room
            np.testing.assert_array_equal(room, vectors.astype(np.float16)[rows])

    @pytest.mark.parametrize("row", [-1, 10])
    def test_a_row_that_is_not_there(self, row, store):
        commit(store, unit(10))
        with pytest.raises(IndexError, match="of 10"):
            store.take_halves(np.array([3, row]))

    def test_take_gives_unit_length_though_float16_does_not(self, folder):
        store = VectorStore(folder, 64, 0, shard_rows=4)
        commit(store, unit(10, dim=64))
        stored = np.linalg.norm(store[0:10].astype(np.float32), axis=1)
        assert np.abs(stored - 1).max() > 2e-5
        np.testing.assert_allclose(np.linalg.norm(store.take(np.arange(10)), axis=1), 1, atol=2e-7)

    def test_take_of_no_rows(self, store):
        commit(store, unit(2))
        assert store.take(np.empty(0, np.int64)).shape == (0, DIM)


class TestDamage:
    def test_a_truncated_shard(self, store, folder):
        commit(store, unit(6))
        shard = folder / "00001.npy"
        whole = HEADER_BYTES + 2 * DIM * 2
        shard.write_bytes(shard.read_bytes()[:-1])
        again = VectorStore(folder, DIM, 6, shard_rows=4)
        with pytest.raises(CollectionError, match="00001.npy"):
            again.map_all()
        with pytest.raises(CollectionError) as caught:
            again[0:6]
        message = str(caught.value)
        assert f"{shard} should hold 2 vectors ({whole} bytes) but has {whole - 1} bytes" in message
        assert f"retrieval index --rebuild SOURCE -o {folder.parent}" in message
        with pytest.raises(CollectionError, match="00001.npy"):
            again.take(np.array([5]))
        np.testing.assert_array_equal(again[0:4], unit(6)[:4].astype(np.float16))

    def test_a_missing_shard(self, store, folder):
        commit(store, unit(6))
        (folder / "00000.npy").unlink()
        with pytest.raises(CollectionError, match=r"should hold 4 vectors .* has 0 bytes"):
            VectorStore(folder, DIM, 6, shard_rows=4)[0:1]

    @pytest.mark.parametrize("kept", [0, HEADER_BYTES + 3])
    def test_nothing_is_appended_behind_damage(self, store, folder, kept):
        commit(store, unit(3))
        shard = folder / "00000.npy"
        shard.write_bytes(shard.read_bytes()[:kept])
        with pytest.raises(CollectionError, match=f"but has {kept} bytes"):
            VectorStore(folder, DIM, 3, shard_rows=4).append(unit(1, seed=1))
        assert shard.stat().st_size == kept


def test_chosen_rows_are_read_as_they_are_sliced(store):
    vectors = unit(11)
    commit(store, vectors)
    rows = np.array([0, 3, 4, 9])
    chosen = store.chosen(rows)
    assert (chosen.shape, len(chosen), chosen.dtype) == ((4, DIM), 4, np.float16)
    np.testing.assert_array_equal(chosen[1:3], vectors[[3, 4]].astype(np.float16))
    np.testing.assert_array_equal(chosen[:], vectors[rows].astype(np.float16))
