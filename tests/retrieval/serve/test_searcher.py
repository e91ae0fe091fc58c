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
from retrieval.query import Query
from retrieval.serve import searcher as room
from retrieval.serve.searcher import Searcher

PATIENCE = 60


@pytest.fixture
def searcher(changing):
    with Searcher(changing, device="cpu", precision="float32") as opened:
        yield opened


def expected(path, encoder, text, k=None):
    with Collection.open(path, encoder=encoder) as collection:
        return collection.search(text, k)


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
        first = searcher.search([Query("a cat")], 1)
        assert gate.entered.wait(PATIENCE)
        waiting = [searcher.search([Query("a cat"), Query(f"rocket {k}")], k) for k in (2, None, 6, 2)]
        gate.open.set()
        assert ids(first.result(PATIENCE)) == ids(expected(changing, tiny_encoder, "a cat", 1))
        for k, answer in zip((2, None, 6, 2), waiting):
            found = expected(changing, tiny_encoder, ["a cat", f"rocket {k}"], k)
            assert ids(answer.result(PATIENCE)) == ids(found)
        assert [size for size in gate.sizes if size] == [1, 8]

    def test_a_batch_has_an_end(self, searcher, monkeypatch):
        monkeypatch.setattr(room, "BATCH_QUERIES", 3)
        gate = Gate(monkeypatch)
        answers = [searcher.search([Query("a")], 1)]
        assert gate.entered.wait(PATIENCE)
        answers += [searcher.search([Query("a")] * 2, 1) for _ in range(3)]
        gate.open.set()
        assert [len(answer.result(PATIENCE)) for answer in answers] == [1, 2, 2, 2]
        assert [size for size in gate.sizes if size] == [1, 4, 2]

    def test_one_that_is_refused_disturbs_no_other(self, searcher, monkeypatch):
        gate = Gate(monkeypatch)
        good = [searcher.search([Query("a")], 1)]
        assert gate.entered.wait(PATIENCE)
        bad = searcher.search([Query("a")], 7)
        cancelled = searcher.search([Query("a")], 1)
        assert cancelled.cancel()
        good.append(searcher.search([Query("a")], 1))
        gate.open.set()
        with pytest.raises(QueryError, match="^k is 7, but .* holds 6 images; ask for at most 6.$"):
            bad.result(PATIENCE)
        assert [len(answer.result(PATIENCE)) for answer in good] == [1, 1]


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
        hits = searcher.search([Query("a cat")], n).result(PATIENCE)
        found = expected(path, encoder, "a cat", n)
        assert ids(hits) == ids(found) and len(hits) == n
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in found], abs=1e-6)

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
        before = ids(searcher.search([Query("a cat")], 6).result(PATIENCE))
        references = tiny_encoder.encode_texts(["a cat", "a dog", "a house"]).astype(np.float16)
        Calibration(references, np.arange(3), weight=20.0, k=3).save(changing / "calibration" / "references.safetensors")
        self.finds(searcher, changing, tiny_encoder, 6)
        assert ids(searcher.search([Query("a cat")], 6).result(PATIENCE)) != before
        switch_off(changing)
        assert ids(searcher.search([Query("a cat")], 6).result(PATIENCE)) == before

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
        assert len(searcher.search([Query("a cat")], 6).result(PATIENCE)) == 6
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
