import shutil
import threading

import numpy as np
import pytest

from retrieval.calibrating import switch_off
from retrieval.calibration import Calibration
from retrieval.collection import Collection
from retrieval.compact import compact, forget
from retrieval.encoders import load_encoder
from retrieval.errors import CollectionNotFoundError, QueryError
from retrieval.maintain import Options, index_sources
from retrieval.query import Query, parse
from retrieval.serve import searcher as room
from retrieval.serve.searcher import Searcher
from retrieval.types import CAPTIONS, IMAGES
from retrieval.wanted import AUTO, Refinement, Wanted
from retrieval.where import every

PATIENCE = 60


@pytest.fixture
def searcher(changing):
    with Searcher(changing, device="cpu", precision="float32") as opened:
        yield opened


def expected(path, encoder, text, k=None):
    with Collection.open(path, encoder=encoder) as collection:
        return collection.search(text, k)


def found(answer):
    return [hit for hits in answer.result(PATIENCE) for hit in hits]


def ids(hits):
    return [hit.id for hit in hits]


class Gate:
    """Holds the first batch until it is opened, and counts the queries of each."""

    def __init__(self, monkeypatch):
        self.sizes, self.entered, self.open = [], threading.Event(), threading.Event()
        query_vectors = room.Collection.query_vectors

        def held(collection, queries, *wanted):
            if threading.current_thread() is not threading.main_thread():  # that only says what is expected
                self.sizes.append(len(queries))
                self.entered.set()
                assert self.open.wait(PATIENCE)
            return query_vectors(collection, queries, *wanted)

        monkeypatch.setattr(room.Collection, "query_vectors", held)


class TestBatches:
    def test_those_waiting_are_answered_together(self, searcher, changing, tiny_encoder, monkeypatch):
        gate = Gate(monkeypatch)
        first = searcher.search([Query("a cat")], Wanted(1))
        assert gate.entered.wait(PATIENCE)
        waiting = [searcher.search([Query("a cat"), Query(f"rocket {k}")], Wanted(k)) for k in (2, None, 6, 2)]
        gate.open.set()
        assert ids(found(first)) == ids(expected(changing, tiny_encoder, "a cat", 1))
        for k, answer in zip((2, None, 6, 2), waiting):
            assert ids(found(answer)) == ids(expected(changing, tiny_encoder, ["a cat", f"rocket {k}"], k))
        assert [size for size in gate.sizes if size] == [1, 8]

    def test_a_batch_has_an_end(self, searcher, monkeypatch):
        monkeypatch.setattr(room, "BATCH_QUERIES", 3)
        gate = Gate(monkeypatch)
        answers = [searcher.search([Query("a")], Wanted(1))]
        assert gate.entered.wait(PATIENCE)
        answers += [searcher.search([Query("a")] * 2, Wanted(1)) for _ in range(3)]
        gate.open.set()
        assert [len(found(answer)) for answer in answers] == [1, 2, 2, 2]
        assert [size for size in gate.sizes if size] == [1, 4, 2]

    def test_one_that_is_refused_disturbs_no_other(self, searcher, monkeypatch):
        gate = Gate(monkeypatch)
        good = [searcher.search([Query("a")], Wanted(1))]
        assert gate.entered.wait(PATIENCE)
        bad = searcher.search([Query("a")], Wanted(7))
        cancelled = searcher.search([Query("a")], Wanted(1))
        assert cancelled.cancel()
        good.append(searcher.search([Query("a")], Wanted(1)))
        gate.open.set()
        with pytest.raises(QueryError, match="^k is 7, but .* holds 6 images; ask for at most 6.$"):
            bad.result(PATIENCE)
        assert [len(found(answer)) for answer in good] == [1, 1]


    def test_a_query_that_cannot_be_asked_fails_its_own_request_alone(self, searcher, changing, tiny_encoder, monkeypatch):
        """Of those encoded together: an id that is not there, terms that cancel, a score that is not to be had."""
        gate = Gate(monkeypatch)
        good = [searcher.search([Query("a")], Wanted(1))]
        assert gate.entered.wait(PATIENCE)
        cat = Query("a cat")
        bad = {
            "There is no image with the id no.jpg": searcher.search([cat, Query("id:no.jpg", document="no.jpg")], Wanted(2)),
            "none: The terms of the query cancel": searcher.search([Query("none", terms=((1, cat), (-1, cat)))], Wanted(2)),
            "min-score auto is estimated for texts": searcher.search(
                [Query("id:rocket.jpg", document="rocket.jpg")], Wanted(2, refinement=Refinement(AUTO))),
            "holds no captions' vectors": searcher.search([cat], Wanted(2, CAPTIONS)),
        }
        good += [searcher.search([Query(f"rocket {number}"), cat], Wanted(2)) for number in range(3)]
        dogs = searcher.search([Query("dogs")], Wanted(2, refinement=Refinement(AUTO)))
        gate.open.set()
        for said, answer in bad.items():
            with pytest.raises(QueryError, match=said):
                answer.result(PATIENCE)
        for number, answer in enumerate(good[1:]):
            assert ids(found(answer)) == ids(expected(changing, tiny_encoder, [f"rocket {number}", "a cat"], 2))
        with Collection.open(changing, encoder=tiny_encoder) as collection:
            assert ids(found(dogs)) == ids(collection.search("dogs", 2, min_score=AUTO))

    def test_each_is_searched_as_it_wants(self, searcher, changing, tiny_encoder, monkeypatch):
        """Though they wait together, and some of their texts are the same."""
        gate = Gate(monkeypatch)
        searcher.search([Query("a")], Wanted(1))
        assert gate.entered.wait(PATIENCE)
        both = "a cat + a rocket"
        ways = [
            {"k": 6, "fusion": fusion, "where": where, "templates": templates} for where in (None, "width < 600")
            for fusion in ("sum", "slerp") for templates in ("on", "off")
        ]
        answers = [
            searcher.search([parse(both), Query("rocket")], Wanted(way["k"], IMAGES, every(way["where"]), way["fusion"], way["templates"]))
            for way in ways
        ]
        gate.open.set()
        with Collection.open(changing, encoder=tiny_encoder) as collection:
            for way, answer in zip(ways, answers):
                right = collection.search([both, "rocket"], **way)
                assert ids(found(answer)) == ids(right)
                assert [hit.score for hit in found(answer)] == pytest.approx([hit.score for hit in right], abs=1e-6)
        assert [size for size in gate.sizes if size] == [1, 4, 4, 4, 4]


class TestAChangingCollection:
    """Each waits until `info` tells of the new state."""

    def wait(self, searcher, **facts):
        done = threading.Event()
        for _ in range(PATIENCE * 20):
            if facts.items() <= searcher.info.items():
                return
            done.wait(0.05)
        raise AssertionError(searcher.info)

    def finds(self, searcher, path, encoder, n):
        hits = found(searcher.search([Query("a cat")], Wanted(n)))
        right = expected(path, encoder, "a cat", n)
        assert ids(hits) == ids(right) and len(hits) == n
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in right], abs=1e-6)

    def test_updated(self, searcher, changing, photo_folder, tiny_encoder):
        assert searcher.info["images"] == 6
        shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "again.jpg")
        (photo_folder / "coffee.png").unlink()
        (photo_folder / "chelsea.png").unlink()
        index_sources([photo_folder], changing)
        self.wait(searcher, images=5)
        self.finds(searcher, changing, tiny_encoder, 5)

    def test_compacted(self, searcher, changing, photo_folder, tiny_encoder):
        forget(changing, [photo_folder / "astronaut.png"])
        compact(changing)
        self.finds(searcher, changing, tiny_encoder, 5)  # whether it was noticed by now or not
        self.wait(searcher, images=5)
        self.finds(searcher, changing, tiny_encoder, 5)

    def test_calibrated_and_no_longer(self, searcher, changing, tiny_encoder):
        before = ids(found(searcher.search([Query("a cat")], Wanted(6))))
        references = tiny_encoder.encode_texts(["a cat", "a dog", "a house"]).astype(np.float16)
        Calibration(references, np.arange(3), weight=20.0, k=3).save(changing / "calibration" / "references.safetensors")
        self.finds(searcher, changing, tiny_encoder, 6)
        assert ids(found(searcher.search([Query("a cat")], Wanted(6)))) != before
        switch_off(changing)
        assert ids(found(searcher.search([Query("a cat")], Wanted(6)))) == before

    def test_rebuilt_with_another_model(self, searcher, changing, photo_folder, other_model):
        other = load_encoder(f"local-dir:{other_model}", device="cpu", precision="float32")
        index_sources([photo_folder], changing, Options(other.name, "cpu", "float32"), rebuild=True)
        self.wait(searcher, encoder=other.name)
        self.finds(searcher, changing, other, 6)

    def test_a_state_that_cannot_be_opened_leaves_the_one_before(self, searcher, changing, photo_folder, tiny_encoder, caplog):
        away = changing.with_name("away.collection")
        changing.rename(away)
        done = threading.Event()
        while "Still serving the state before: There is no collection at" not in caplog.text:
            done.wait(0.05)
        assert len(found(searcher.search([Query("a cat")], Wanted(6)))) == 6
        forget(away, [photo_folder / "rocket.jpg"])
        away.rename(changing)
        self.wait(searcher, images=5)
        self.finds(searcher, changing, tiny_encoder, 5)
        assert caplog.text.count("Still serving") == 1


def test_without_images_every_search_is_refused(changing, photo_folder):
    forget(changing, [photo_folder])
    with Searcher(changing) as searcher:
        assert searcher.info["images"] == 0
        with pytest.raises(QueryError, match="holds no images yet"):
            searcher.search([Query("a cat")]).result(PATIENCE)


def test_what_cannot_be_opened_is_told_at_once(tmp_path):
    with pytest.raises(CollectionNotFoundError, match="There is no collection at"):
        Searcher(tmp_path / "nothing.collection")
