import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from retrieval import collection as room
from retrieval import query
from retrieval.catalog import Catalog
from retrieval.collection import FEW_TEXTS, Collection
from retrieval.encoders import load_encoder
from retrieval.errors import (
    CollectionError, CollectionNotFoundError, EncoderMismatchError, QueryError, SchemaError,
)
from retrieval.manifest import SCHEMA_VERSION, Manifest
from retrieval.query import Query
from retrieval.wanted import Wanted
from retrieval.types import Hit

QUERIES = ["a cat looking at the camera", "a rocket at night", "a cup of coffee", "nothing of the kind"]


class TestSearch:
    @pytest.mark.parametrize("k", [1, 3, "all"])
    def test_equals_brute_force_over_the_encoders_outputs(
        self, sample_collection, tiny_encoder, truth, k, assert_right
    ):
        k = len(truth) if k == "all" else k
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            hits = collection.search(QUERIES, k)
        assert_right(hits, truth, QUERIES, tiny_encoder.encode_texts(QUERIES), k)

    def test_equals_brute_force_over_the_stored_vectors_exactly(self, sample_collection, tiny_encoder):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            stored = collection.vectors.take(np.arange(len(collection)))
            scores = tiny_encoder.encode_texts(QUERIES) @ stored.T  # (q, n)
            ids = [id for id, _ in collection.catalog.indexed()]
            for query, row in zip(QUERIES, scores):
                hits = collection.search(query, len(ids))
                assert [hit.id for hit in hits] == [ids[place] for place in np.argsort(-row, kind="stable")]
                np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[::-1], atol=1e-6)

    def test_every_image_finds_itself_first(self, sample_collection, sample_folder, tiny_encoder, truth, assert_right):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            queries = [str(sample_folder / id) for id in truth]
            hits = collection.search(queries, 2)
        assert [(hit.query, hit.id, hit.path) for hit in hits[::2]] == [
            (query, id, query) for query, id in zip(queries, truth)
        ]
        np.testing.assert_allclose([hit.score for hit in hits[::2]], 1, atol=5e-4)  # as float16 is stored
        assert_right(hits, truth, queries, list(truth.values()), 2)

    def test_a_path_is_that_file(self, sample_collection, sample_folder, tiny_encoder):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            one = collection.search(sample_folder / "rocket.jpg", 1)
            several = collection.search([sample_folder / "rocket.jpg", "a cat"], 1)
        assert [hit.id for hit in one] == ["rocket.jpg"] and several[0] == one[0]

    def test_a_smaller_copy_finds_its_original(self, sample_collection, sample_folder, tiny_encoder, tmp_path):
        small = tmp_path / "small.png"
        with Image.open(sample_folder / "rocket.jpg") as original:
            original.resize((original.width // 2, original.height // 2), Image.Resampling.LANCZOS).save(small)
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            [hit] = collection.search(str(small), 1)
        assert hit.id == "rocket.jpg" and hit.score > 0.99

    def test_texts_and_images_mixed(self, sample_collection, sample_folder, tiny_encoder):
        rocket = str(sample_folder / "rocket.jpg")
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            mixed = collection.search(["a cat", rocket, "coffee"], 4)
            apart = [hit for query in ("a cat", rocket, "coffee") for hit in collection.search(query, 4)]
        assert [replace(hit, score=0.0) for hit in mixed] == [replace(hit, score=0.0) for hit in apart]
        np.testing.assert_allclose([hit.score for hit in mixed], [hit.score for hit in apart], atol=1e-6)

    def test_query_vectors_of_ones_own(self, sample_collection, tiny_encoder, truth):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            [hit] = collection.search_vectors(["mine"], truth["coffee.png"][None], 1)
        assert replace(hit, path="", score=0.0) == Hit("mine", 1, 0.0, "coffee.png", "")

    def test_where_everything_that_a_query_found_is_gone_the_next_best_is_found(
        self, sample_copy, sample_folder, tiny_encoder, truth
    ):
        vectors = np.stack([truth["coffee.png"], truth["rocket.jpg"]])
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            collection.index()
            with Catalog.open(sample_copy, writable=True) as catalog:
                catalog.forget([str(sample_folder / "coffee.png")])
            answers = collection.search_each([Query("coffee"), Query("rocket")], vectors, Wanted(1))
        coffee = vectors[0]
        second = max((id for id in truth if id != "coffee.png"), key=lambda id: coffee @ truth[id])
        assert [[(hit.query, hit.rank, hit.id) for hit in hits] for hits in answers] == [
            [("coffee", 1, second)], [("rocket", 1, "rocket.jpg")]]

    def test_no_queries(self, sample_collection, tiny_encoder):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            assert collection.search([]) == []

    def test_the_encoder_on_record_is_loaded_once(self, sample_collection, tiny_encoder, truth, assert_right):
        with Collection.open(sample_collection, device="cpu", precision="float32") as collection:
            encoder = collection.load_encoder()
            assert encoder.fingerprint == tiny_encoder.fingerprint
            assert collection.load_encoder() is encoder
            vectors = tiny_encoder.encode_texts(QUERIES)
            assert_right(collection.search(QUERIES, 2), truth, QUERIES, vectors, 2)


class TestK:
    def test_it_is_ten_unless_told(self, sample_collection, tiny_encoder):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            assert (collection.checked_k(None), len(collection.search("a cat"))) == (10, 10)

    def test_or_all_there_are(self, sample_copy, tiny_encoder):
        self.forget_all_but(sample_copy, 3)
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            assert [hit.rank for hit in collection.search("a cat")] == [1, 2, 3]

    @pytest.mark.parametrize("k", [0, -1])
    def test_too_small(self, sample_collection, tiny_encoder, k):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            with pytest.raises(QueryError, match=f"^k is {k}; ask for at least 1 result.$"):
                collection.search("a cat", k)

    def test_too_large_is_refused_before_the_encoder_is_loaded(self, sample_collection, truth, monkeypatch):
        monkeypatch.setattr(room, "load_recorded_encoder", None)
        n = len(truth)
        with Collection.open(sample_collection) as collection, pytest.raises(QueryError) as caught:
            collection.search("a cat", n + 1)
        assert str(caught.value) == f"k is {n + 1}, but {sample_collection} holds {n} images; ask for at most {n}."

    def test_nothing_to_search(self, sample_copy, tiny_encoder):
        self.forget_all_but(sample_copy, 0)
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            assert len(collection) == 0
            with pytest.raises(QueryError, match=f"^{sample_copy} holds no images yet. Add some: retrieval index"):
                collection.search("a cat")

    def forget_all_but(self, path, kept):
        with Catalog.open(path, writable=True) as catalog:
            catalog.forget(sorted(catalog.known_files())[kept:])


class TestOpening:
    def test_a_text_and_a_relative_path_will_do(self, sample_collection, truth, monkeypatch):
        monkeypatch.chdir(sample_collection.parent)
        with Collection.open("photos.collection") as collection:
            assert len(collection) == len(truth)

    def test_no_collection(self, tmp_path):
        with pytest.raises(CollectionNotFoundError, match="is a folder but not a collection"):
            Collection.open(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_another_encoder_is_refused_naming_both(self, sample_collection, tiny_encoder, other_model):
        other = load_encoder(f"local-dir:{other_model}", device="cpu", precision="float32")
        with pytest.raises(EncoderMismatchError) as caught:
            Collection.open(sample_collection, encoder=other)
        message = str(caught.value)
        assert tiny_encoder.fingerprint != other.fingerprint
        for encoder in (tiny_encoder, other):
            assert encoder.name in message and encoder.fingerprint in message
        assert str(sample_collection) in message
        assert f"retrieval index --rebuild --model {other.name} SOURCE -o {sample_collection}" in message

    def test_a_model_that_changed_since_is_refused(self, sample_copy, tiny_encoder):
        manifest = Manifest.load(sample_copy)
        replace(manifest, encoder=replace(manifest.encoder, fingerprint="an-older-one")).save(sample_copy)
        with Collection.open(sample_copy) as collection:
            with pytest.raises(EncoderMismatchError, match=rf"(?s)an-older-one.*{tiny_encoder.fingerprint}"):
                collection.search("a cat")

    def test_a_newer_schema_says_upgrade(self, sample_copy):
        content = json.loads((sample_copy / "manifest.json").read_text())
        (sample_copy / "manifest.json").write_text(json.dumps({**content, "schema_version": SCHEMA_VERSION + 1}))
        with pytest.raises(SchemaError, match="upgrade"):
            Collection.open(sample_copy)

    @pytest.mark.parametrize("name", ["manifest.json", "catalog.sqlite"])
    def test_damage_says_rebuild(self, sample_copy, name):
        (sample_copy / name).write_bytes(b"\0" * 5000)
        with pytest.raises(CollectionError, match=f"(?s){name}.*retrieval index --rebuild SOURCE -o {sample_copy}"):
            Collection.open(sample_copy)

    def test_truncated_vectors_say_rebuild(self, sample_copy, tiny_encoder):
        shard = sample_copy / "vectors" / "00000.npy"
        shard.write_bytes(shard.read_bytes()[:500])
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            with pytest.raises(CollectionError, match="(?s)should hold .* vectors.*--rebuild"):
                collection.search("a cat")

    def test_a_closed_one_says_so(self, sample_collection, tiny_encoder):
        with Collection.open(sample_collection, encoder=tiny_encoder) as collection:
            collection.search("a cat")
        with pytest.raises(CollectionError, match=f"^{sample_collection} is closed; open it anew.$"):
            collection.search("a cat")

    def test_reading_writes_nothing(self, sample_copy, tiny_encoder):
        before = {path: path.stat().st_mtime_ns for path in sorted(sample_copy.rglob("*"))}
        with Collection.open(sample_copy, encoder=tiny_encoder) as collection:
            collection.search("a cat")
        assert {path: path.stat().st_mtime_ns for path in sorted(sample_copy.rglob("*"))} == before


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
