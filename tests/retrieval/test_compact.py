import json
import os

import numpy as np
import pytest

from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.compact import CompactReport, _copy, compact, forget
from retrieval.errors import CollectionError
from retrieval.maintain import Options, index_sources
from retrieval.manifest import SCHEMA_VERSION, Manifest
from retrieval.vectors import HEADER_BYTES, VectorStore
from retrieval.writing import only_writer

pytestmark = pytest.mark.usefixtures("loaded_once")

SIX = ["2019/beach/china.jpg", "astronaut.png", "chelsea.png", "coffee.png", "flower.jpg", "rocket.jpg"]
ROW_BYTES = 2 * 32


@pytest.fixture
def path(photo_folder, tmp_path, tiny_encoder):
    path = tmp_path / "photos.collection"
    index_sources([photo_folder], path, Options(tiny_encoder.name, "cpu", "float32"))
    return path


@pytest.fixture
def holey(path, photo_folder):
    """With rows 1 and 3 dead."""
    for name in ("astronaut.png", "coffee.png"):
        (photo_folder / name).unlink()
    index_sources([photo_folder], path)
    return path


def stored(path):
    """id -> its float16 vector."""
    with Collection.open(path) as collection:
        return {id: collection.vectors[row : row + 1][0].tolist() for id, row in collection.catalog.indexed()}


def answers(path, encoder):
    with Collection.open(path, encoder=encoder) as collection:
        return collection.search(["a cat", "a rocket", "a cup"])


class TestCompact:
    def test_dead_rows_go_and_nothing_else_changes(self, holey, tiny_encoder):
        before, found = stored(holey), answers(holey, tiny_encoder)
        assert compact(holey) == CompactReport(holey, rows=4, dropped_rows=2, freed=2 * ROW_BYTES)
        assert stored(holey) == before
        assert answers(holey, tiny_encoder) == found
        with Collection.open(holey) as collection:
            assert [row for _, row in collection.catalog.indexed()] == [0, 1, 2, 3]
            assert collection.catalog.vector_rows == 4
            assert collection.manifest.index.generation == collection.catalog.generation
        assert (holey / "vectors-1" / "00000.npy").stat().st_size == HEADER_BYTES + 4 * ROW_BYTES
        assert not (holey / "vectors").exists()

    def test_again_it_has_nothing_to_do(self, holey):
        compact(holey)
        files = sorted((file, file.read_bytes()) for file in holey.rglob("*") if file.is_file())
        assert compact(holey) == CompactReport(holey, rows=4, dropped_rows=0, freed=0)
        assert sorted((file, file.read_bytes()) for file in holey.rglob("*") if file.is_file()) == files

    def test_indexing_goes_on_behind_it(self, holey, photo_folder, sample_photos, tiny_encoder):
        compact(holey)
        (photo_folder / "new.jpg").write_bytes((photo_folder / "rocket.jpg").read_bytes())
        report = index_sources([photo_folder], holey)
        assert (report.images, report.reused, report.unchanged) == (5, 1, 4)
        after = stored(holey)
        assert after["new.jpg"] == after["rocket.jpg"]
        (photo_folder / "flower.jpg").unlink()
        index_sources([photo_folder], holey)
        assert compact(holey).dropped_rows == 1
        assert sorted(os.listdir(holey)) == [
            "catalog.sqlite", "manifest.json", "vectors-2", "writer.lock"]
        del after["flower.jpg"]
        assert stored(holey) == after

    def test_several_shards(self, tmp_path):
        store = VectorStore(tmp_path / "old", 3, 0, shard_rows=4)
        vectors = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float16)
        store.n = len(store.append(vectors))
        live = np.array([0, 2, 3, 5, 7, 8, 9, 10])
        _copy(store, live, tmp_path / "new")
        copied = VectorStore(tmp_path / "new", 3, 8, shard_rows=4)
        np.testing.assert_array_equal(copied[:], vectors[live])
        assert sorted(os.listdir(tmp_path / "new")) == ["00000.npy", "00001.npy"]

    def test_everything_dead(self, path):
        forget(path, [os.sep])
        assert compact(path).rows == 0
        with Collection.open(path) as collection:
            assert (len(collection), collection.vectors.n) == (0, 0)
        assert [one for one in os.listdir(path) if one.startswith("vectors")] == []

    def test_a_reader_that_was_open_finds_the_right_documents(self, holey, tiny_encoder):
        expected = answers(holey, tiny_encoder)
        with Collection.open(holey, encoder=tiny_encoder) as before, \
                Collection.open(holey, encoder=tiny_encoder) as untouched, \
                Collection.open(holey, encoder=tiny_encoder) as unread:
            unread.index()
            assert before.search(["a cat", "a rocket", "a cup"]) == expected
            compact(holey)
            assert before.search(["a cat", "a rocket", "a cup"]) == expected
            assert untouched.search(["a cat", "a rocket", "a cup"]) == expected
            assert unread.search(["a cat", "a rocket", "a cup"]) == expected

    def test_a_failure_leaves_all_as_it_was(self, holey, tiny_encoder, monkeypatch):
        before = answers(holey, tiny_encoder)

        def no_space(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched, pytest.raises(CollectionError, match="No space left"):
            patched.setattr(Catalog, "renumber", no_space)
            compact(holey)
        assert answers(holey, tiny_encoder) == before
        assert compact(holey).dropped_rows == 2
        assert [one for one in os.listdir(holey) if one.startswith("vectors")] == ["vectors-1"]

    def test_a_collection_of_schema_1_opens_and_becomes_the_newest(self, holey, tiny_encoder):
        content = json.loads((holey / "manifest.json").read_text())
        (holey / "manifest.json").write_text(json.dumps({**content, "schema_version": 1}))
        before = answers(holey, tiny_encoder)
        assert Manifest.load(holey).schema_version == 1
        compact(holey)
        assert Manifest.load(holey).schema_version == SCHEMA_VERSION == 4
        assert answers(holey, tiny_encoder) == before

    def test_a_rebuild_replaces_it(self, holey, photo_folder, tiny_encoder):
        compact(holey)
        assert index_sources(
            [photo_folder], holey, Options(tiny_encoder.name, "cpu", "float32"), rebuild=True).images == 4
        assert (holey / "vectors").is_dir() and not (holey / "vectors-1").exists()

    def test_one_writer_only(self, holey):
        with only_writer(holey), pytest.raises(CollectionError, match="is writing to"):
            compact(holey)


class TestForget:
    def test_files_and_folders(self, path, photo_folder, tiny_encoder):
        assert forget(path, [photo_folder / "2019", photo_folder / "rocket.jpg"]) == 2
        assert sorted(stored(path)) == SIX[1:5]
        assert {hit.id for hit in answers(path, tiny_encoder)} == set(SIX[1:5])
        assert (photo_folder / "rocket.jpg").is_file()

    def test_a_root_that_is_gone(self, path, photo_folder, tmp_path, sample_photos):
        (tmp_path / "scans").mkdir()
        (tmp_path / "scans" / "one.jpg").write_bytes((photo_folder / "rocket.jpg").read_bytes())
        index_sources([tmp_path / "scans"], path)
        for file in sorted(photo_folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        photo_folder.rmdir()
        assert forget(path, [photo_folder]) == 6
        assert list(stored(path)) == ["one.jpg"]

    def test_a_place_that_holds_nothing_drops_nothing(self, path, photo_folder):
        with pytest.raises(CollectionError, match=f"holds nothing at or below {photo_folder}/roc"):
            forget(path, [photo_folder / "2019", photo_folder / "roc"])
        assert sorted(stored(path)) == SIX

    def test_all_of_it(self, path, photo_folder):
        assert forget(path, [photo_folder]) == 6
        with Collection.open(path) as collection:
            assert len(collection) == 0
        assert index_sources([photo_folder], path).images == 6
