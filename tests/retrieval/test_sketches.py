"""Sketches of collections of made-up vectors: made, used, brought up to date, gone when they should be."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.vectors_with_gap import vectors_with_gap
from indexes import FlatIndex
from indexes import sketch as indexes_sketch
from retrieval import sketches as room
from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.compact import compact
from retrieval.documents import Document, FileState
from retrieval.errors import NOTICE, EncoderError
from retrieval.manifest import EncoderRecord, IndexChoice, Manifest
from retrieval.vectors import VectorStore

DIM, FIRST = 64, 2000
MADE = vectors_with_gap(5000, 1100, DIM, rank=10, clusters=60, seed=5)
ASKED = MADE.queries[1000:1030]


@pytest.fixture(autouse=True)
def pays_early(monkeypatch):
    monkeypatch.setattr(indexes_sketch, "_AT_LEAST", 1500)


def encode(texts):
    assert len(texts) == 1000  # the generic queries
    return MADE.queries[:1000]


def add(path, start, stop):
    with Catalog.open(path, writable=True) as catalog:
        store = VectorStore(path / "vectors", DIM, catalog.vector_rows)
        rows = store.append(MADE.documents[start:stop])
        documents = [Document(FileState(f"/{i}.jpg", 1, 1), str(i), f"{i:032x}") for i in range(start, stop)]
        catalog.commit(documents, rows)


def refresh(path, encode=encode, factory="Flat"):
    with Catalog.open(path, writable=True) as catalog:
        manifest = Manifest.load(path)
        manifest = replace(manifest, index=replace(manifest.index, choice=IndexChoice(factory)))
        Collection(path, manifest, catalog).refresh_index(encode)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "made.collection"
    path.mkdir()
    Catalog.create(path).close()
    Manifest(EncoderRecord("made up", DIM, "")).save(path)
    add(path, 0, FIRST)
    return path


@pytest.fixture
def sketched(path):
    refresh(path)
    return path


def sketch_in_use(path):
    """Of a fresh reader, having seen that it finds what the rows themselves say."""
    with Collection.open(path, device="cpu") as collection:
        index = collection.index()
        rows = collection.indexed().live_rows()
        plain = FlatIndex(collection.vectors, rows)
        for query in ASKED:
            for found, expected in zip(index.search(query[None], 10), plain.search(query[None], 10)):
                np.testing.assert_array_equal(found, expected)
        return index._sketch


def file_of(path, vectors="vectors"):
    return path / vectors / "rows.sketch"


def test_one_is_made_where_it_pays(path):
    assert sketch_in_use(path) is None
    refresh(path)
    assert file_of(path).exists() and not list(path.rglob("*.tmp"))
    found = sketch_in_use(path)
    assert (found.n, found.dim, found.made_of) == (FIRST, DIM, FIRST)


def test_few_rows_have_none(path, monkeypatch):
    monkeypatch.setattr(indexes_sketch, "_AT_LEAST", FIRST + 1)
    refresh(path, lambda texts: pytest.fail("no text is to be encoded"))
    assert not file_of(path).exists() and sketch_in_use(path) is None


def test_it_is_made_with_texts_such_as_will_be_asked(path, monkeypatch):
    given = []
    whole = room.sketch_of
    monkeypatch.setattr(room, "sketch_of", lambda vectors, queries: (given.append(queries), whole(vectors, queries))[1])
    refresh(path)
    np.testing.assert_array_equal(given[0], MADE.queries[:1000])
    file_of(path).unlink()
    (path / "generic-queries.npy").unlink()
    refresh(path, None)
    assert given[1] is None and sketch_in_use(path).n == FIRST


def test_an_unchanged_collection_is_left_alone(sketched):
    before = file_of(sketched).stat()
    refresh(sketched, None)
    assert file_of(sketched).stat().st_mtime_ns == before.st_mtime_ns


def test_few_new_rows_are_read_themselves_and_many_are_added(sketched):
    add(sketched, FIRST, FIRST + 100)
    assert sketch_in_use(sketched).n == FIRST
    refresh(sketched)
    assert sketch_in_use(sketched).n == FIRST
    add(sketched, FIRST + 100, FIRST + 500)
    refresh(sketched)
    found = sketch_in_use(sketched)
    assert (found.n, found.made_of) == (FIRST + 500, FIRST)


def test_it_is_made_anew_once_there_are_twice_as_many(sketched):
    add(sketched, FIRST, 2 * FIRST)
    refresh(sketched)
    assert sketch_in_use(sketched).made_of == 2 * FIRST


def test_rows_that_go_need_no_other(sketched):
    with Catalog.open(sketched, writable=True) as catalog:
        catalog.forget([f"/{i}.jpg" for i in range(0, 300, 3)])
    assert sketch_in_use(sketched).n == FIRST
    refresh(sketched)
    assert sketch_in_use(sketched).n == FIRST


def test_compacting_drops_it_with_the_vectors_and_makes_another(sketched):
    with Catalog.open(sketched, writable=True) as catalog:
        catalog.forget([f"/{i}.jpg" for i in range(300)])
    assert compact(sketched).dropped_rows == 300
    assert not (sketched / "vectors").exists() and file_of(sketched, "vectors-1").exists()
    assert sketch_in_use(sketched).n == FIRST - 300


def test_after_compacting_to_few_rows_there_is_none(sketched):
    with Catalog.open(sketched, writable=True) as catalog:
        catalog.forget([f"/{i}.jpg" for i in range(1000)])
    compact(sketched)
    assert not file_of(sketched, "vectors-1").exists() and sketch_in_use(sketched) is None


@pytest.mark.parametrize("content", [b"", b"XMSKETCH", b"\0" * 5000])
def test_a_damaged_one_is_not_used_and_made_anew(sketched, content):
    file_of(sketched).write_bytes(content)
    assert sketch_in_use(sketched) is None
    refresh(sketched)
    assert sketch_in_use(sketched).n == FIRST


def test_a_truncated_one_is_not_used(sketched):
    file_of(sketched).write_bytes(file_of(sketched).read_bytes()[:-DIM])
    assert sketch_in_use(sketched) is None


def test_a_reader_from_before_new_rows_keeps_to_its_own(sketched):
    with Collection.open(sketched, device="cpu") as reader:
        store = reader.vectors
        add(sketched, FIRST, FIRST + 500)
        refresh(sketched)
        index = reader.indexed().open(reader.manifest.index, "cpu")
        assert index._sketch.n == FIRST + 500 and index.n == FIRST
        for query in ASKED[:5]:
            found, expected = index.search(query[None], 10), FlatIndex(store).search(query[None], 10)
            np.testing.assert_array_equal(found.rows, expected.rows)


def test_another_index_needs_none(sketched):
    refresh(sketched, factory="IVF32,SQfp16")
    assert not file_of(sketched).exists()
    refresh(sketched)
    assert sketch_in_use(sketched).n == FIRST


def test_rows_off_unit_length_are_searched_without(path, caplog):
    store = VectorStore(path / "vectors", DIM, FIRST)
    spoilt = np.array(store[1990:2000], np.float32)
    spoilt[3] *= 2
    store.n = 1990
    store.append(spoilt)
    refresh(path)
    assert not file_of(path).exists()
    assert "exact search is not made faster. vectors row 1993 has norm 2" in caplog.text


def test_where_no_text_can_be_encoded_the_sketch_is_made_without_and_that_is_said(path, caplog):
    def fails(texts):
        raise EncoderError("The weights are gone.")

    with caplog.at_level(NOTICE):
        refresh(path, fails)
    assert "exact search was not fitted to words, as no texts could be encoded. The weights are gone." in caplog.text
    assert "tuned" not in caplog.text and sketch_in_use(path) is not None
