"""Indexes of collections over made-up vectors, with texts whose vectors are made up as well."""

import os
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.vectors_with_gap import vectors_with_gap
from indexes import IndexSpec, exact_search
from indexes.errors import SpecError
from retrieval import indexed
from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.compact import compact
from retrieval.documents import Document, FileState
from retrieval.errors import EncoderError
from retrieval.indexed import is_worn
from retrieval.manifest import EncoderRecord, IndexChoice, IndexRecord, Manifest
from retrieval.vectors import VectorStore

DIM, FIRST = 32, 2000
MADE = vectors_with_gap(5000, 1300, DIM, rank=16, clusters=60, seed=5)
UNSEEN = MADE.queries[1000:1200]


def encode(texts):
    assert len(texts) == 1000  # the generic queries
    return MADE.queries[:1000]


def forbidden(texts):
    raise AssertionError("no text is to be encoded")


def add(path, start, stop):
    with Catalog.open(path, writable=True) as catalog:
        store = VectorStore(path / "vectors", DIM, catalog.vector_rows)
        rows = store.append(MADE.documents[start:stop])
        documents = [Document(FileState(f"/{i}.jpg", 1, 1), str(i), f"{i:032x}") for i in range(start, stop)]
        catalog.commit(documents, rows)


def forget(path, numbers):
    with Catalog.open(path, writable=True) as catalog:
        catalog.forget([f"/{i}.jpg" for i in numbers])


def refresh(path, encode=encode, choice=None, **options):
    with Catalog.open(path, writable=True) as catalog:
        manifest = Manifest.load(path)
        if choice:
            manifest = replace(manifest, index=replace(manifest.index, choice=choice))
        Collection(path, manifest, catalog).refresh_index(encode, **options)
    return Manifest.load(path).index


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "made.collection"
    path.mkdir()
    Catalog.create(path).close()
    Manifest(EncoderRecord("made up", DIM, "")).save(path)
    add(path, 0, FIRST)
    return path


@pytest.fixture
def built(path):
    refresh(path, choice=IndexChoice("IVF32,SQfp16", target_recall=0.95))
    return path


def found(path, k=10):
    """ids (q, k) that a fresh reader finds."""
    with Collection.open(path, device="cpu") as collection:
        hits = collection.search_vectors([str(i) for i in range(len(UNSEEN))], UNSEEN, k)
    answers = [[] for _ in UNSEEN]
    for hit in hits:
        answers[int(hit.query)].append(int(hit.id))
    return answers


def recall(path, numbers):
    """Of what is found, against exact search among the documents of these numbers."""
    truth = np.asarray(numbers)[exact_search(MADE.documents[numbers], UNSEEN, 10).rows]
    answers = found(path)
    assert {one for hits in answers for one in hits} <= set(numbers)
    return np.mean([len(set(hits) & set(row)) / 10 for hits, row in zip(answers, truth.tolist())])


class TestChoice:
    def test_few_images_need_no_index(self, path):
        record = refresh(path, forbidden)
        assert record == IndexRecord(IndexSpec("Flat"), 1, FIRST)
        assert not (path / "index.faiss").exists() and recall(path, range(FIRST)) > 0.998  # float16

    def test_many_get_the_one_suggested_with_a_line_that_says_why(self, path, monkeypatch, caplog):
        asked = []

        def suggest(n, dim, *, memory, target_recall):
            asked.append((n, dim, memory, target_recall))
            spec = IndexSpec("IVF32,PQ8x4fs", refine=8) if n > FIRST else IndexSpec("Flat")
            return indexed_suggestion(spec, ("2,500 are many.",))

        monkeypatch.setattr(IndexSpec, "suggest", staticmethod(suggest))
        choice = IndexChoice(memory=10**9, target_recall=0.9)
        assert refresh(path, choice=choice).spec.factory == "Flat"
        add(path, FIRST, 2500)
        with caplog.at_level(indexed.NOTICE):
            record = refresh(path)
        assert asked == [(2000, DIM, 10**9, 0.9), (2500, DIM, 10**9, 0.9)]
        assert f"{path} is now searched with IVF32,PQ8x4fs: 2,500 are many." in caplog.text
        assert (record.spec.factory, record.trained_rows, record.tuning.target) == ("IVF32,PQ8x4fs", 2500, 0.9)
        assert recall(path, range(2500)) >= 0.88

    def test_what_it_is_trained_on_takes_no_more_than_there_is(self, path, monkeypatch):
        allowed, whole = [], indexed.build_index
        monkeypatch.setattr(
            indexed, "build_index", lambda *given, **named: (allowed.append(named["memory"]), whole(*given, **named))[1]
        )
        refresh(path, choice=IndexChoice("IVF16,SQfp16", memory=10**7))
        monkeypatch.setattr(indexed, "free_memory", lambda: 5 * 10**6)
        refresh(path, choice=IndexChoice("IVF32,SQfp16"))
        assert allowed == [10**7, 5 * 10**6]

    def test_without_texts_exact_search_stays(self, path, monkeypatch):
        suggestion = indexed_suggestion(IndexSpec("IVF32,SQfp16"), ())
        monkeypatch.setattr(IndexSpec, "suggest", staticmethod(lambda *_, **__: suggestion))
        assert refresh(path, None).spec.factory == "Flat"
        assert refresh(path).spec.factory == "IVF32,SQfp16"

    def test_tuned_with_generic_queries_and_on_record(self, built):
        record = Manifest.load(built).index
        assert record.tuning.reached and (record.tuning.queries, record.tuning.texts) == (1000, "generic queries")
        assert record.tuning.target == 0.95 and record.spec.nprobe >= 1
        value, low, high = record.tuning.text
        assert low < value < high and record.tuning.image[0] > 0.9 and record.tuning.p50_ms > 0
        size = (built / "index.faiss").stat().st_size
        assert (record.rows, record.trained_rows, record.bytes_per_vector) == (FIRST, FIRST, round(size / FIRST, 1))
        assert recall(built, range(FIRST)) >= 0.93

    def test_texts_are_encoded_once(self, built):
        record = refresh(built, forbidden, retune=True)
        assert record.tuning.queries == 1000

    def test_another_target_is_tuned_to_without_building(self, built):
        before = Manifest.load(built).index
        content = (built / "index.faiss").read_bytes()
        after = refresh(built, choice=replace(before.choice, target_recall=0.999))
        assert after.spec.nprobe > before.spec.nprobe and after.tuning.target == 0.999
        assert (built / "index.faiss").read_bytes() == content
        assert recall(built, range(FIRST)) >= 0.99

    def test_where_no_text_can_be_encoded_it_says_so(self, path, caplog):
        def fails(texts):
            raise EncoderError("The weights are gone.")

        with caplog.at_level(indexed.NOTICE):
            record = refresh(path, fails, IndexChoice("IVF32,SQfp16"))
        assert "was not tuned, as no texts could be encoded. The weights are gone." in caplog.text
        assert record.tuning is None and refresh(path).tuning.texts == "generic queries"


class TestRefusals:
    @pytest.mark.parametrize(("choice", "message"), [
        (IndexChoice("Bogus"), "not a FAISS factory string"),
        (IndexChoice("IVF4096,Flat"), "needs at least 4096 vectors to train, and .* would have 2000 images"),
        (IndexChoice("HNSW32", memory=1000), "takes about 0.0 GB for 2000 images, and there are 0.0 GB"),
    ])
    def test_what_cannot_be_built_is_told_beforehand(self, path, choice, message):
        with Collection.open(path) as collection, pytest.raises(SpecError, match=message):
            collection.indexed().check_fits(choice, FIRST)

    def test_and_afterwards_leaves_exact_search(self, path, caplog):
        with caplog.at_level(indexed.NOTICE):
            record = refresh(path, choice=IndexChoice("IVF4096,Flat"))
        assert "is searched exactly, without an index." in caplog.text
        assert record.spec.factory == "Flat" and record.choice.factory == "IVF4096,Flat"
        assert recall(path, range(FIRST)) > 0.998  # float16


class TestChange:
    def test_new_rows_are_added_without_training(self, built, monkeypatch):
        monkeypatch.setattr(indexed, "build_index", None)
        before = Manifest.load(built).index
        add(built, FIRST, 3000)
        assert recall(built, range(3000)) >= 0.9  # a reader before the run has ended
        record = refresh(built, forbidden)
        assert (record.rows, record.trained_rows, record.spec) == (3000, FIRST, before.spec)
        assert record.tuning == before.tuning
        assert recall(built, range(3000)) >= 0.9

    def test_dead_rows_are_passed_over_without_writing(self, built, monkeypatch):
        monkeypatch.setattr(indexed, "build_index", None)
        monkeypatch.setattr(indexed, "save_index", None)
        forget(built, range(100, 400))
        left = [*range(100), *range(400, FIRST)]
        assert recall(built, left) >= 0.93
        record = refresh(built, forbidden)
        assert (record.rows, record.trained_rows) == (1700, FIRST)
        assert recall(built, left) >= 0.93

    def test_both_at_once_and_rows_that_were_dead_before_the_index(self, path):
        forget(path, range(50))
        refresh(path, choice=IndexChoice("IVF32,SQfp16"))
        forget(path, range(50, 90))
        add(path, FIRST, 2600)
        record = refresh(path, forbidden)
        assert (record.rows, record.trained_rows) == (2510, 1950)
        assert recall(path, range(90, 2600)) >= 0.9

    def test_rows_of_captions_lie_in_between(self, built, monkeypatch):
        monkeypatch.setattr(indexed, "build_index", None)
        with Catalog.open(built, writable=True) as catalog:
            rows = VectorStore(built / "vectors", DIM, catalog.vector_rows).append(MADE.queries[:10])
            catalog.commit_texts([f"text {number}" for number in range(10)], rows)
        add(built, FIRST, 2400)
        assert refresh(built, forbidden).rows == 2400
        assert recall(built, range(2400)) >= 0.9

    def test_codes_are_refined_with_the_vectors(self, path):
        record = refresh(path, choice=IndexChoice("IVF32,PQ8x4fs", target_recall=0.97))
        assert record.spec.refine > 1
        forget(path, range(30))
        add(path, FIRST, 2400)
        refresh(path, forbidden)
        assert recall(path, range(30, 2400)) >= 0.93

    @pytest.mark.parametrize("change", ["doubled", "a quarter dead"])
    def test_it_is_built_and_tuned_anew_when_it_is_worn(self, built, change):
        if change == "doubled":
            add(built, FIRST, 4000)
        else:
            forget(built, range(500))
        record = refresh(built)
        assert record.trained_rows == record.rows == (4000 if change == "doubled" else 1500)
        assert record.tuning.reached

    def test_compacting_renumbers_and_keeps_the_settings(self, built):
        forget(built, range(100))
        compact(built)
        record = Manifest.load(built).index
        assert record.rows == record.trained_rows == 1900 and record.tuning is not None
        assert recall(built, range(100, FIRST)) >= 0.93

    def test_a_file_of_vectors_before_they_were_compacted_is_not_used(self, built):
        old = (built / "index.faiss").read_bytes()
        forget(built, range(100))
        compact(built)
        (built / "index.faiss").write_bytes(old)
        assert recall(built, range(100, FIRST)) >= 0.8

    def test_an_index_first_opened_after_a_run_is_as_that_left_it(self, built, monkeypatch):
        with Collection.open(built, device="cpu") as reader:
            add(built, FIRST, 2100)
            record = refresh(built, forbidden)
            monkeypatch.setattr(indexed, "build_index", None)
            hits = reader.search_vectors(["one"], MADE.documents[2099:2100], 10)
            assert (hits[0].id, reader.index().n, reader.manifest.index) == ("2099", 2100, record)

    def test_one_that_is_open_stays_as_it_was(self, built):
        with Collection.open(built, device="cpu") as reader:
            index = reader.index()
            add(built, FIRST, 2100)
            refresh(built, forbidden)
            hits = reader.search_vectors(["one"], MADE.documents[2099:2100], 10)
            assert reader.index() is index
        assert len(hits) == 10 and all(int(hit.id) < FIRST for hit in hits)


    def test_a_reader_finds_as_many_after_others_forgot_some(self, built):
        with Collection.open(built, device="cpu") as reader:
            before = [int(hit.id) for hit in reader.search_vectors(["one"], UNSEEN[:1], 10)]
            forget(built, before[:6])
            after = [int(hit.id) for hit in reader.search_vectors(["one"], UNSEEN[:1], 10)]
        assert len(before) == 10 and after[:4] == before[6:]
        assert len(after) == 10 and not set(after) & set(before[:6])


class TestUnusableFile:
    """What a search does without, the next run mends."""

    @pytest.fixture(params=["damaged", "of another spec"])
    def unusable(self, built, request, monkeypatch):
        if request.param == "damaged":
            os.truncate(built / "index.faiss", 1000)
            return built
        with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):  # before all is on record
            killed.setattr(Manifest, "save", interrupted)
            refresh(built, choice=IndexChoice("IVF16,SQfp16"))
        return built

    def test_the_next_run_writes_another(self, unusable, monkeypatch):
        record = refresh(unusable)
        assert record.spec.factory == "IVF32,SQfp16" and record.tuning.reached
        monkeypatch.setattr(indexed, "build_index", None)
        assert recall(unusable, range(FIRST)) >= 0.93

    def test_a_search_says_that_it_builds_one(self, unusable, caplog):
        with caplog.at_level(indexed.NOTICE):
            assert recall(unusable, range(FIRST)) >= 0.8
        assert f"{unusable}/index.faiss is missing, damaged or of another state. The index is built in memory" in caplog.text

    def test_one_that_is_used_says_nothing(self, built, caplog):
        with caplog.at_level(indexed.NOTICE):
            assert recall(built, range(FIRST)) >= 0.93
        assert caplog.text == ""


def interrupted(*_):
    raise KeyboardInterrupt


def test_opening_reads_no_vector(built, monkeypatch):
    (built / "vectors" / "00000.npy").unlink()
    with Collection.open(built, device="cpu") as collection:
        assert collection.index().n == FIRST
        assert not collection.vectors._maps


@pytest.mark.parametrize(("trained", "held", "live", "worn"), [
    (100, range(100), range(199), False),
    (100, range(100), range(200), True),
    (100, range(100), range(20, 150), False),  # a fifth of what is in the file is dead
    (100, range(100), range(21, 150), True),
    (0, range(0), range(10), True),
])
def test_when_an_index_is_worn(trained, held, live, worn):
    assert is_worn(trained, np.array(held, np.int64), np.array(live, np.int64)) is worn


def indexed_suggestion(spec, reasons):
    from indexes import Suggestion

    return Suggestion(spec, 0, reasons)
