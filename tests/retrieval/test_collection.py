import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from indexes import IndexSpec
from retrieval import collection as room
from retrieval import indexed, query
from retrieval.catalog import Catalog
from retrieval.collection import FEW_TEXTS, Collection
from retrieval.encoders import load_encoder
from retrieval.errors import (
    CollectionError, CollectionNotFoundError, EncoderMismatchError, QueryError, SchemaError,
)
from retrieval.images import open_image
from retrieval.maintain import Options, index_sources
from retrieval.manifest import SCHEMA_VERSION, IndexRecord, Manifest
from retrieval.query import Query
from retrieval.wanted import Wanted
from retrieval.types import Hit

QUERIES = ["a cat looking at the camera", "a rocket at night", "a cup of coffee", "nothing of the kind"]
# What storing float16 may change in a cosine: a component keeps 11 binary digits, so the rounding
# error of a unit vector is at most 2**-11 = 4.9e-4 long.
ROUNDING = 5e-4


@pytest.fixture(scope="module")
def photos(tmp_path_factory, sample_photos):
    """A folder with every sample photo, and what they are called in a collection."""
    folder = tmp_path_factory.mktemp("made") / "photos"
    folder.mkdir()
    for path in sample_photos:
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def made(photos, tiny_encoder):
    path = photos.parent / "photos.collection"
    index_sources([photos], path, Options(tiny_encoder.name, "cpu", "float32"))
    return path


@pytest.fixture
def copied(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "photos.collection")


@pytest.fixture(scope="module")
def truth(photos, tiny_encoder):
    """id -> the encoder's own vector of that file."""
    ids = sorted(path.name for path in photos.iterdir())
    images = [open_image(photos / id, at_least=tiny_encoder.input_size)[0] for id in ids]
    return dict(zip(ids, tiny_encoder.encode_images(images)))


def assert_right(hits, truth, queries, vectors, k):
    """The hits are what brute force over the encoder's outputs gives, up to float16 rounding."""
    assert [(hit.query, hit.rank) for hit in hits] == [(q, r) for q in queries for r in range(1, k + 1)]
    for place, vector in enumerate(vectors):
        found = hits[place * k : (place + 1) * k]
        exact = {id: float(vector @ truth[id]) for id in truth}
        assert len({hit.id for hit in found}) == k
        np.testing.assert_allclose([hit.score for hit in found], [exact[hit.id] for hit in found], atol=ROUNDING)
        best = sorted(exact.values(), reverse=True)[:k]
        np.testing.assert_allclose([exact[hit.id] for hit in found], best, atol=2 * ROUNDING)
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)


def assert_searches_right(path, encoder, truth):
    with Collection.open(path, encoder=encoder) as collection:
        assert len(collection) == len(truth)
        vectors = encoder.encode_texts(QUERIES)
        assert_right(collection.search(QUERIES, len(truth)), truth, QUERIES, vectors, len(truth))


class TestSearch:
    @pytest.mark.parametrize("k", [1, 3, "all"])
    def test_equals_brute_force_over_the_encoders_outputs(self, made, tiny_encoder, truth, k):
        k = len(truth) if k == "all" else k
        with Collection.open(made, encoder=tiny_encoder) as collection:
            hits = collection.search(QUERIES, k)
        assert_right(hits, truth, QUERIES, tiny_encoder.encode_texts(QUERIES), k)

    def test_equals_brute_force_over_the_stored_vectors_exactly(self, made, tiny_encoder):
        with Collection.open(made, encoder=tiny_encoder) as collection:
            stored = collection.vectors.take(np.arange(len(collection)))
            scores = tiny_encoder.encode_texts(QUERIES) @ stored.T  # (q, n)
            ids = [id for id, _ in collection.catalog.indexed()]
            for query, row in zip(QUERIES, scores):
                hits = collection.search(query, len(ids))
                assert [hit.id for hit in hits] == [ids[place] for place in np.argsort(-row, kind="stable")]
                np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[::-1], atol=1e-6)

    def test_every_image_finds_itself_first(self, made, photos, tiny_encoder, truth):
        with Collection.open(made, encoder=tiny_encoder) as collection:
            queries = [str(photos / id) for id in truth]
            hits = collection.search(queries, 2)
        assert [(hit.query, hit.id, hit.path) for hit in hits[::2]] == [
            (query, id, query) for query, id in zip(queries, truth)
        ]
        np.testing.assert_allclose([hit.score for hit in hits[::2]], 1, atol=ROUNDING)
        assert_right(hits, truth, queries, list(truth.values()), 2)

    def test_a_path_is_that_file(self, made, photos, tiny_encoder):
        with Collection.open(made, encoder=tiny_encoder) as collection:
            one, several = collection.search(photos / "rocket.jpg", 1), collection.search([photos / "rocket.jpg", "a cat"], 1)
        assert [hit.id for hit in one] == ["rocket.jpg"] and several[0] == one[0]

    def test_a_smaller_copy_finds_its_original(self, made, photos, tiny_encoder, tmp_path):
        small = tmp_path / "small.png"
        with Image.open(photos / "rocket.jpg") as original:
            original.resize((original.width // 2, original.height // 2), Image.Resampling.LANCZOS).save(small)
        with Collection.open(made, encoder=tiny_encoder) as collection:
            [hit] = collection.search(str(small), 1)
        assert hit.id == "rocket.jpg" and hit.score > 0.99

    def test_texts_and_images_mixed(self, made, photos, tiny_encoder):
        rocket = str(photos / "rocket.jpg")
        with Collection.open(made, encoder=tiny_encoder) as collection:
            mixed = collection.search(["a cat", rocket, "coffee"], 4)
            apart = [hit for query in ("a cat", rocket, "coffee") for hit in collection.search(query, 4)]
        assert [replace(hit, score=0.0) for hit in mixed] == [replace(hit, score=0.0) for hit in apart]
        np.testing.assert_allclose([hit.score for hit in mixed], [hit.score for hit in apart], atol=1e-6)

    def test_query_vectors_of_ones_own(self, made, tiny_encoder, truth):
        with Collection.open(made, encoder=tiny_encoder) as collection:
            [hit] = collection.search_vectors(["mine"], truth["coffee.png"][None], 1)
        assert replace(hit, path="", score=0.0) == Hit("mine", 1, 0.0, "coffee.png", "")

    def test_where_everything_that_a_query_found_is_gone_the_next_best_is_found(self, copied, photos, tiny_encoder, truth):
        vectors = np.stack([truth["coffee.png"], truth["rocket.jpg"]])
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            collection.index()
            with Catalog.open(copied, writable=True) as catalog:
                catalog.forget([str(photos / "coffee.png")])
            answers = collection.search_each([Query("coffee"), Query("rocket")], vectors, Wanted(1))
        coffee = vectors[0]
        second = max((id for id in truth if id != "coffee.png"), key=lambda id: coffee @ truth[id])
        assert [[(hit.query, hit.rank, hit.id) for hit in hits] for hits in answers] == [
            [("coffee", 1, second)], [("rocket", 1, "rocket.jpg")]]

    def test_no_queries(self, made, tiny_encoder):
        with Collection.open(made, encoder=tiny_encoder) as collection:
            assert collection.search([]) == []

    def test_the_encoder_on_record_is_loaded_once(self, made, tiny_encoder, truth):
        with Collection.open(made, device="cpu", precision="float32") as collection:
            encoder = collection.load_encoder()
            assert encoder.fingerprint == tiny_encoder.fingerprint
            assert collection.load_encoder() is encoder
            vectors = tiny_encoder.encode_texts(QUERIES)
            assert_right(collection.search(QUERIES, 2), truth, QUERIES, vectors, 2)


class TestK:
    def test_it_is_ten_unless_told(self, made, tiny_encoder):
        with Collection.open(made, encoder=tiny_encoder) as collection:
            assert (collection.checked_k(None), len(collection.search("a cat"))) == (10, 10)

    def test_or_all_there_are(self, copied, tiny_encoder):
        self.forget_all_but(copied, 3)
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            assert [hit.rank for hit in collection.search("a cat")] == [1, 2, 3]

    @pytest.mark.parametrize("k", [0, -1])
    def test_too_small(self, made, tiny_encoder, k):
        with Collection.open(made, encoder=tiny_encoder) as collection:
            with pytest.raises(QueryError, match=f"^k is {k}; ask for at least 1 result.$"):
                collection.search("a cat", k)

    def test_too_large_is_refused_before_the_encoder_is_loaded(self, made, truth, monkeypatch):
        monkeypatch.setattr(room, "load_recorded_encoder", None)
        n = len(truth)
        with Collection.open(made) as collection, pytest.raises(QueryError) as caught:
            collection.search("a cat", n + 1)
        assert str(caught.value) == f"k is {n + 1}, but {made} holds {n} images; ask for at most {n}."

    def test_nothing_to_search(self, copied, tiny_encoder):
        self.forget_all_but(copied, 0)
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            assert len(collection) == 0
            with pytest.raises(QueryError, match=f"^{copied} holds no images yet. Add some: retrieval index"):
                collection.search("a cat")

    def forget_all_but(self, path, kept):
        with Catalog.open(path, writable=True) as catalog:
            catalog.forget(sorted(catalog.known_files())[kept:])


@pytest.fixture
def graph(copied):
    """A copy whose index is a graph, which has a file."""
    with Catalog.open(copied, writable=True) as catalog:
        manifest = replace(Manifest.load(copied), index=IndexRecord(IndexSpec("HNSW32", ef_search=64)))
        Collection(copied, manifest, catalog).refresh_index()
    return copied


def without_rocket(path, truth):
    """Commit that rocket.jpg is gone. Returns what is left."""
    with Catalog.open(path, writable=True) as catalog:
        catalog.forget([file for file in catalog.known_files() if file.endswith("rocket.jpg")])
    return {id: vector for id, vector in truth.items() if id != "rocket.jpg"}


def refresh(path):
    with Catalog.open(path, writable=True) as catalog:
        Collection(path, Manifest.load(path), catalog).refresh_index()


class TestIndexFile:
    """index.faiss is derived: whatever becomes of it, the results are right."""

    def test_missing(self, graph, tiny_encoder, truth):
        (graph / "index.faiss").unlink()
        assert_searches_right(graph, tiny_encoder, truth)

    @pytest.mark.parametrize("damage", ["empty", "cut short", "foreign", "a flipped byte"])
    def test_damaged(self, graph, tiny_encoder, truth, damage):
        path = graph / "index.faiss"
        content = path.read_bytes()
        path.write_bytes({
            "empty": b"",
            "cut short": content[: len(content) // 2],
            "foreign": b"no index" * 100,
            "a flipped byte": content[:40] + bytes([content[40] ^ 255]) + content[41:],
        }[damage])
        assert_searches_right(graph, tiny_encoder, truth)

    def test_stale(self, graph, tiny_encoder, truth):
        """Committed changes that no index followed: what a kill leaves before the index is saved."""
        fewer = without_rocket(graph, truth)
        assert_searches_right(graph, tiny_encoder, fewer)

    def test_of_another_spec(self, graph, tiny_encoder, truth):
        manifest = Manifest.load(graph)
        replace(manifest, index=replace(manifest.index, spec=IndexSpec("IVF1,Flat"))).save(graph)
        assert_searches_right(graph, tiny_encoder, truth)

    def test_a_current_one_is_used_as_it_is(self, graph, tiny_encoder, truth, monkeypatch):
        monkeypatch.setattr(indexed, "build_index", None)
        assert_searches_right(graph, tiny_encoder, truth)

    def test_refreshing_saves_what_is_then_used(self, graph, tiny_encoder, truth, monkeypatch):
        before = Manifest.load(graph).index.generation
        fewer = without_rocket(graph, truth)
        refresh(graph)
        manifest = Manifest.load(graph)
        assert (manifest.index.generation, manifest.index.rows) == (before + 1, len(fewer))
        assert manifest.counts == {"images": len(fewer), "failed": 0}
        monkeypatch.setattr(indexed, "build_index", None)
        assert_searches_right(graph, tiny_encoder, fewer)


class TestFlat:
    """The default reads the vectors where they lie."""

    @pytest.fixture(autouse=True)
    def nothing_is_built(self, monkeypatch):
        for name in ("build_index", "load_index", "save_index"):
            monkeypatch.setattr(indexed, name, None)

    def test_it_has_no_file(self, made, tiny_encoder, truth):
        assert Manifest.load(made).index.spec == IndexSpec("Flat")
        assert not (made / "index.faiss").exists()
        assert_searches_right(made, tiny_encoder, truth)

    def test_images_that_went_are_not_found(self, copied, tiny_encoder, truth):
        assert_searches_right(copied, tiny_encoder, without_rocket(copied, truth))

    def test_the_file_of_an_older_version_is_ignored_then_removed(self, copied, tiny_encoder, truth):
        (copied / "index.faiss").write_bytes(b"what faiss wrote")
        assert_searches_right(copied, tiny_encoder, truth)
        refresh(copied)
        assert not (copied / "index.faiss").exists()
        assert_searches_right(copied, tiny_encoder, truth)

    def test_refreshing_records_what_is_searched(self, copied, truth):
        before = Manifest.load(copied).index.generation
        fewer = without_rocket(copied, truth)
        refresh(copied)
        manifest = Manifest.load(copied)
        assert (manifest.index.generation, manifest.index.rows) == (before + 1, len(fewer))
        assert manifest.counts == {"images": len(fewer), "failed": 0}

    def test_opening_the_index_reads_no_vector(self, copied):
        shard = copied / "vectors" / "00000.npy"
        shard.write_bytes(b"\xff" * shard.stat().st_size)  # no numbers, to whoever reads them
        with Collection.open(copied) as collection:
            assert collection.index().n == len(collection)

    def test_what_is_missing_is_told_when_the_index_is_opened(self, copied):
        (copied / "vectors" / "00000.npy").unlink()
        with Collection.open(copied) as collection, pytest.raises(CollectionError, match="00000.npy should hold"):
            collection.index()


class TestWhileOthersWrite:
    @pytest.mark.parametrize("dropped", [[], ["rocket.jpg"]])
    def test_commits_of_a_run_at_work_do_not_disturb_an_open_collection(
        self, copied, photos, tiny_encoder, truth, dropped
    ):
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            collection.index()
            with Catalog.open(copied, writable=True) as catalog:
                catalog.forget([str(photos / name) for name in dropped])
            shutil.copyfile(photos / "rocket.jpg", copied.parent / "new.jpg")
            index_sources([copied.parent / "new.jpg"], copied)
            hits = collection.search(QUERIES, len(truth))
        seen = {id: vector for id, vector in truth.items() if id not in dropped}
        assert_right(hits, seen, QUERIES, tiny_encoder.encode_texts(QUERIES), len(seen))

    @pytest.mark.parametrize("searched_before", [False, True])
    def test_a_rebuild_is_what_is_searched_from_then_on(
        self, copied, photos, tiny_encoder, truth, searched_before, tmp_path
    ):
        fewer = dict(list(truth.items())[::-2])  # other images in the same rows
        (tmp_path / "fewer").mkdir()
        for id in fewer:
            shutil.copyfile(photos / id, tmp_path / "fewer" / id)
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            if searched_before:
                collection.search(QUERIES, 1)
            index_sources([tmp_path / "fewer"], copied, Options(tiny_encoder.name, "cpu", "float32"), rebuild=True)
            hits = collection.search(QUERIES, len(fewer))
            assert len(collection) == len(fewer)
        assert_right(hits, fewer, QUERIES, tiny_encoder.encode_texts(QUERIES), len(fewer))

    def test_a_rebuild_with_another_encoder_is_refused(self, copied, photos, other_model, tiny_encoder):
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            index_sources([photos], copied, Options(f"local-dir:{other_model}", "cpu", "float32"), rebuild=True)
            with pytest.raises(CollectionError, match="was rebuilt with another encoder meanwhile. Open it anew."):
                collection.search(QUERIES)


class TestOpening:
    def test_a_text_and_a_relative_path_will_do(self, made, truth, monkeypatch):
        monkeypatch.chdir(made.parent)
        with Collection.open("photos.collection") as collection:
            assert len(collection) == len(truth)

    def test_it_is_counted_anew_after_a_commit(self, copied, truth):
        with Collection.open(copied) as collection, Catalog.open(copied, writable=True) as writer:
            assert len(collection) == len(truth)
            writer.forget([next(iter(writer.known_files()))])
            assert len(collection) == len(truth) - 1

    def test_no_collection(self, tmp_path):
        with pytest.raises(CollectionNotFoundError, match="is a folder but not a collection"):
            Collection.open(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_another_encoder_is_refused_naming_both(self, made, tiny_encoder, other_model):
        other = load_encoder(f"local-dir:{other_model}", device="cpu", precision="float32")
        with pytest.raises(EncoderMismatchError) as caught:
            Collection.open(made, encoder=other)
        message = str(caught.value)
        assert tiny_encoder.fingerprint != other.fingerprint
        for part in (str(made), tiny_encoder.name, tiny_encoder.fingerprint, other.name, other.fingerprint):
            assert part in message
        assert f"retrieval index --rebuild --model {other.name} SOURCE -o {made}" in message

    def test_a_model_that_changed_since_is_refused(self, copied, tiny_encoder):
        manifest = Manifest.load(copied)
        replace(manifest, encoder=replace(manifest.encoder, fingerprint="an-older-one")).save(copied)
        with Collection.open(copied) as collection:
            with pytest.raises(EncoderMismatchError, match=rf"(?s)an-older-one.*{tiny_encoder.fingerprint}"):
                collection.search("a cat")

    def test_a_newer_schema_says_upgrade(self, copied):
        content = json.loads((copied / "manifest.json").read_text())
        (copied / "manifest.json").write_text(json.dumps({**content, "schema_version": SCHEMA_VERSION + 1}))
        with pytest.raises(SchemaError, match="upgrade"):
            Collection.open(copied)

    @pytest.mark.parametrize("name", ["manifest.json", "catalog.sqlite"])
    def test_damage_says_rebuild(self, copied, name):
        (copied / name).write_bytes(b"\0" * 5000)
        with pytest.raises(CollectionError, match=f"(?s){name}.*retrieval index --rebuild SOURCE -o {copied}"):
            Collection.open(copied)

    def test_truncated_vectors_say_rebuild(self, copied, tiny_encoder):
        shard = copied / "vectors" / "00000.npy"
        shard.write_bytes(shard.read_bytes()[:500])
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            with pytest.raises(CollectionError, match="(?s)should hold .* vectors.*--rebuild"):
                collection.search("a cat")

    def test_reading_writes_nothing(self, copied, tiny_encoder):
        before = {path: path.stat().st_mtime_ns for path in sorted(copied.rglob("*"))}
        with Collection.open(copied, encoder=tiny_encoder) as collection:
            collection.search("a cat")
        assert {path: path.stat().st_mtime_ns for path in sorted(copied.rglob("*"))} == before


def test_a_few_words_need_half_the_encoder(collection_of_words, photo_folder, tmp_path, monkeypatch):
    """Images, many texts, and another way to run need all of it; once it is loaded, it is used."""
    path = collection_of_words(tmp_path / "words.collection", {photo_folder / "rocket.jpg": "a rocket"})
    monkeypatch.setattr("retrieval.collection.load_recorded_encoder", lambda *_, **__: "the whole one")
    words, image = query.text_query("a rocket"), query.parse(str(photo_folder / "rocket.jpg"))
    for asked, how, expected in (
        ([words] * FEW_TEXTS, {}, "builtin"), ([words] * (FEW_TEXTS + 1), {}, None),
        ([words, image], {}, None), ([words], {"precision": "bfloat16"}, None),
    ):
        with Collection.open(path, **how) as opened:
            found = opened.encoder_for(asked)
            assert getattr(found, "name", None) == expected
            if expected is None:
                assert found == opened.encoder_for([words]) == "the whole one"
