import shutil
from dataclasses import replace

import pytest

from indexes import IndexSpec
from retrieval import indexed
from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.errors import CollectionError
from retrieval.maintain import Options, index_sources
from retrieval.manifest import IndexRecord, Manifest
from retrieval.stored import StoredCollection

QUERIES = ["a cat looking at the camera", "a rocket at night", "a cup of coffee", "nothing of the kind"]


@pytest.fixture
def assert_searches_right(assert_right, tiny_encoder):
    """assert_searches_right(path, expected): opened anew, it finds these vectors by id, and nothing else."""

    def check(path, expected):
        with Collection.open(path, encoder=tiny_encoder) as collection:
            assert len(collection) == len(expected)
            hits = collection.search(QUERIES, len(expected))
            assert_right(hits, expected, QUERIES, tiny_encoder.encode_texts(QUERIES), len(expected))

    return check


@pytest.fixture
def graph(sample_copy):
    """A copy whose index is a graph, which has a file."""
    with Catalog.open(sample_copy, writable=True) as catalog:
        manifest = replace(Manifest.load(sample_copy), index=IndexRecord(IndexSpec("HNSW32", ef_search=64)))
        StoredCollection(sample_copy, manifest, catalog).refresh_index()
    return sample_copy


def without_rocket(path, truth):
    """Commit that rocket.jpg is gone. Returns what is left."""
    with Catalog.open(path, writable=True) as catalog:
        catalog.forget([file for file in catalog.known_files() if file.endswith("rocket.jpg")])
    return {id: vector for id, vector in truth.items() if id != "rocket.jpg"}


def refresh(path):
    with Catalog.open(path, writable=True) as catalog:
        StoredCollection(path, Manifest.load(path), catalog).refresh_index()


class TestIndexFile:
    """index.faiss is derived: whatever becomes of it, the results are right."""

    def test_missing(self, graph, truth, assert_searches_right):
        (graph / "index.faiss").unlink()
        assert_searches_right(graph, truth)

    @pytest.mark.parametrize("damage", ["empty", "cut short", "foreign", "a flipped byte"])
    def test_damaged(self, graph, truth, damage, assert_searches_right):
        path = graph / "index.faiss"
        content = path.read_bytes()
        path.write_bytes({
            "empty": b"",
            "cut short": content[: len(content) // 2],
            "foreign": b"no index" * 100,
            "a flipped byte": content[:40] + bytes([content[40] ^ 255]) + content[41:],
        }[damage])
        assert_searches_right(graph, truth)

    def test_stale(self, graph, truth, assert_searches_right):
        """Committed changes that no index followed: what a kill leaves before the index is saved."""
        fewer = without_rocket(graph, truth)
        assert_searches_right(graph, fewer)

    def test_of_another_spec(self, graph, truth, assert_searches_right):
        manifest = Manifest.load(graph)
        replace(manifest, index=replace(manifest.index, spec=IndexSpec("IVF1,Flat"))).save(graph)
        assert_searches_right(graph, truth)

    def test_a_current_one_is_used_as_it_is(self, graph, truth, monkeypatch, assert_searches_right):
        monkeypatch.setattr(indexed, "build_index", None)
        assert_searches_right(graph, truth)

    def test_refreshing_saves_what_is_then_used(self, graph, truth, monkeypatch, assert_searches_right):
        before = Manifest.load(graph).index.generation
        fewer = without_rocket(graph, truth)
        refresh(graph)
        manifest = Manifest.load(graph)
        assert (manifest.index.generation, manifest.index.rows) == (before + 1, len(fewer))
        assert manifest.counts == {"images": len(fewer), "failed": 0}
        monkeypatch.setattr(indexed, "build_index", None)
        assert_searches_right(graph, fewer)


class TestFlat:
    """The default reads the vectors where they lie."""

    @pytest.fixture(autouse=True)
    def nothing_is_built(self, monkeypatch):
        for name in ("build_index", "load_index", "save_index"):
            monkeypatch.setattr(indexed, name, None)

    def test_it_has_no_file(self, sample_collection, truth, assert_searches_right):
        assert Manifest.load(sample_collection).index.spec == IndexSpec("Flat")
        assert not (sample_collection / "index.faiss").exists()
        assert_searches_right(sample_collection, truth)

    def test_images_that_went_are_not_found(self, sample_copy, truth, assert_searches_right):
        assert_searches_right(sample_copy, without_rocket(sample_copy, truth))

    def test_the_file_of_an_older_version_is_ignored_then_removed(self, sample_copy, truth, assert_searches_right):
        (sample_copy / "index.faiss").write_bytes(b"what faiss wrote")
        assert_searches_right(sample_copy, truth)
        refresh(sample_copy)
        assert not (sample_copy / "index.faiss").exists()
        assert_searches_right(sample_copy, truth)

    def test_refreshing_records_what_is_searched(self, sample_copy, truth):
        before = Manifest.load(sample_copy).index.generation
        fewer = without_rocket(sample_copy, truth)
        refresh(sample_copy)
        manifest = Manifest.load(sample_copy)
        assert (manifest.index.generation, manifest.index.rows) == (before + 1, len(fewer))
        assert manifest.counts == {"images": len(fewer), "failed": 0}

    def test_opening_the_index_reads_no_vector(self, sample_copy):
        shard = sample_copy / "vectors" / "00000.npy"
        shard.write_bytes(b"\xff" * shard.stat().st_size)  # no numbers, to whoever reads them
        with Collection.open(sample_copy) as collection:
            assert collection.index().n == len(collection)

    def test_what_is_missing_is_told_when_the_index_is_opened(self, sample_copy):
        (sample_copy / "vectors" / "00000.npy").unlink()
        with Collection.open(sample_copy) as collection, pytest.raises(CollectionError, match="00000.npy should hold"):
            collection.index()


class TestWhileOthersWrite:
    @pytest.mark.parametrize("dropped", [[], ["rocket.jpg"]])
    def test_commits_of_a_run_at_work_do_not_disturb_an_open_collection(
        self, sample_copy, sample_folder, tiny_encoder, truth, dropped, assert_right
    ):
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            collection.index()
            with Catalog.open(sample_copy, writable=True) as catalog:
                catalog.forget([str(sample_folder / name) for name in dropped])
            shutil.copyfile(sample_folder / "rocket.jpg", sample_copy.parent / "new.jpg")
            index_sources([sample_copy.parent / "new.jpg"], sample_copy)
            hits = collection.search(QUERIES, len(truth))
        seen = {id: vector for id, vector in truth.items() if id not in dropped}
        assert_right(hits, seen, QUERIES, tiny_encoder.encode_texts(QUERIES), len(seen))

    @pytest.mark.parametrize("searched_before", [False, True])
    def test_a_rebuild_is_what_is_searched_from_then_on(
        self, sample_copy, sample_folder, tiny_encoder, truth, searched_before, tmp_path, assert_right
    ):
        fewer = dict(list(truth.items())[::-2])  # other images in the same rows
        (tmp_path / "fewer").mkdir()
        for id in fewer:
            shutil.copyfile(sample_folder / id, tmp_path / "fewer" / id)
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            if searched_before:
                collection.search(QUERIES, 1)
            index_sources([tmp_path / "fewer"], sample_copy, Options(tiny_encoder.name, "cpu", "float32"), rebuild=True)
            hits = collection.search(QUERIES, len(fewer))
            assert len(collection) == len(fewer)
        assert_right(hits, fewer, QUERIES, tiny_encoder.encode_texts(QUERIES), len(fewer))

    def test_a_rebuild_with_another_encoder_is_refused(self, sample_copy, sample_folder, other_model, tiny_encoder):
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            other = Options(f"local-dir:{other_model}", "cpu", "float32")
            index_sources([sample_folder], sample_copy, other, rebuild=True)
            with pytest.raises(CollectionError, match="was rebuilt with another encoder meanwhile. Open it anew."):
                collection.search(QUERIES)

    def test_it_is_counted_anew_after_a_commit(self, sample_copy, truth):
        with Collection.open(sample_copy) as collection, Catalog.open(sample_copy, writable=True) as writer:
            assert len(collection) == len(truth)
            writer.forget([next(iter(writer.known_files()))])
            assert len(collection) == len(truth) - 1
