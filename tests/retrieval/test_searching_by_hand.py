"""Refined searches in a collection of six vectors, where every score is known."""

from pathlib import Path

import numpy as np
import pytest

from retrieval import collection as room
from retrieval.calibration import Calibration
from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.documents import Document, FileState
from retrieval.duplicate_groups import duplicate_groups
from retrieval.errors import QueryError
from retrieval.images import ImageFacts
from retrieval.manifest import EncoderRecord, Manifest
from retrieval.rank import refinement
from retrieval.searching import Nearest
from retrieval.vectors import VectorStore

# Scores with the query (1, 0, 0): 1, 0.96, 0, 0, 1, 0.6; rows 0 and 4 are the same file.
VECTORS = np.array([[1, 0, 0], [0.96, 0.28, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0.6, 0.8, 0]], np.float32)
CONTENTS = "abcdae"


class East:
    """Every text lies in the east, but the many captions of the background in the south-west: they reach 0 at best."""

    name, fingerprint, dim = "east", "east", 3

    def encode_texts(self, texts):
        return np.tile(np.array([1, 0, 0] if len(texts) == 1 else [-0.6, -0.8, 0], np.float32), (len(texts), 1))


class Backwards:
    name, depth = "backwards", 3

    def scores(self, query, images, first):
        return -first


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_CACHE", str(tmp_path / "cache"))


def made(path, vectors, contents):
    path.mkdir()
    with Catalog.create(path) as catalog:
        store = VectorStore(path / "vectors", 3, 0)
        catalog.commit([
            Document(FileState(f"/photos/{row}.jpg", 10 + row, 1), f"{row}.jpg", content,
                     ImageFacts(10, 10 + row, None, None, None, None))
            for row, content in enumerate(contents)
        ], store.append(vectors))
        store.n = len(vectors)
        Collection(path, Manifest(EncoderRecord("east", 3, "east")), catalog).refresh_index()
    return path


@pytest.fixture
def opened(tmp_path):
    with Collection.open(made(tmp_path / "six.collection", VECTORS, CONTENTS), encoder=East()) as collection:
        yield collection


@pytest.fixture
def calibrated(opened):
    """Less 1.92, 2, 0.56, 0, 1.92, 1.6: the order is 3, 2, 0, 4, 5, 1."""
    references = np.array([[0.96, 0.28, 0]], np.float16)
    Calibration(references, np.zeros(1, np.int64), weight=2.0, k=1).save(
        opened.path / "calibration" / "references.safetensors"
    )
    return opened


def found(opened, k=6, **how):
    return [(int(hit.id[0]), round(hit.score, 2)) for hit in opened.search("east", k, **how)]


def test_plain(opened):
    assert found(opened)[:4] == [(0, 1), (4, 1), (1, 0.96), (5, 0.6)]


@pytest.mark.parametrize("queries", [None, 5, b"east", [None], Path("nothere"), [Path("nothere")]])
def test_what_is_no_query(opened, queries):
    with pytest.raises(QueryError, match="cannot be searched by|There is no image file nothere"):
        opened.search(queries)


@pytest.mark.parametrize("k", ["2", 2.0, True])
def test_how_many_is_a_whole_number(opened, k):
    with pytest.raises(QueryError, match=f"^k is {k!r}; give a whole number.$"):
        opened.search("east", k)
    assert len(opened.search("east", np.int32(2))) == 2


def test_dedup_and_what_fills_up(opened):
    hits = opened.search("east", 3, dedup=0.95)
    assert [(hit.id, hit.duplicates) for hit in hits] == [("0.jpg", 2), ("5.jpg", 0), ("2.jpg", 0)]
    assert [(hit.id, hit.duplicates) for hit in opened.search("east", 2, dedup=1)] == [("0.jpg", 1), ("1.jpg", 0)]


def test_a_wider_search_goes_on_until_k_are_left(opened):
    """Two candidates are both the same file; the next four times as many hold others."""
    assert found(opened, 1, dedup=0.95) == [(0, 1)]
    assert found(opened, 6, dedup=0.95) == [(0, 1), (5, 0.6), (2, 0), (3, 0)]


def test_copies_are_counted_whatever_k_is(opened):
    for k in (1, 2, 3, 6):
        assert opened.search("east", k, dedup=0.95)[0].duplicates == 2
    assert opened.search("east", 1, dedup=0.99)[0].duplicates == 1


def test_copies_are_counted_among_a_bounded_number(opened, monkeypatch):
    monkeypatch.setattr(refinement, "_COUNTED", 2)
    assert opened.search("east", 1, dedup=0.95)[0].duplicates == 1


def test_least_scores(opened):
    assert found(opened, min_score=0.601) == [(0, 1), (4, 1), (1, 0.96)]
    assert found(opened, min_score=0.599) == [(0, 1), (4, 1), (1, 0.96), (5, 0.6)]
    assert found(opened, 2, min_score=0.599) == [(0, 1), (4, 1)]


def test_auto(opened):
    hits = opened.search("east", 6, min_score="auto")
    assert [(hit.id, hit.relevance) for hit in hits] == [("0.jpg", 1), ("4.jpg", 1), ("1.jpg", 1), ("5.jpg", 1)]
    everything = opened.search("east", 6, min_score=-1)
    assert [hit.relevance for hit in everything] == [1, 1, 1, 1, 0, 0]


def test_what_relevance_is_measured_by_is_made_once_per_commit(opened, monkeypatch):
    made, make = [], room.relevance_model
    monkeypatch.setattr(room, "relevance_model", lambda *of: made.append(of) or make(*of))
    for _ in range(2):
        assert [hit.relevance for hit in opened.search("east", 6, min_score=-1)] == [1, 1, 1, 1, 0, 0]
    assert len(made) == 1
    with Catalog.open(opened.path, writable=True) as catalog:
        catalog.forget(["/photos/3.jpg"])  # which the background was nearest to
    assert [hit.relevance for hit in opened.search("east", 5, min_score=-1)] == [1, 1, 1, 1, 1]
    assert len(made) == 2


@pytest.mark.parametrize(("query", "fusion"), [("2:a - b", "sum"), ("-1:a + 2:b", "sum"), ("a + b", "product")])
def test_auto_is_not_for_what_scores_lower_than_captions(opened, query, fusion):
    with pytest.raises(QueryError, match="subtracts or multiplies.* Give a number"):
        opened.search(query, 6, min_score="auto", fusion=fusion)
    (best, *_) = opened.search(query, 6, min_score=-1, fusion=fusion)
    assert best.relevance is None


def test_auto_is_for_sums_of_words(opened):
    assert opened.search("a + b", 6, min_score="auto") == []  # it lies where the background does
    assert [hit.relevance for hit in opened.search("a + b", 6, min_score=-1)] == [0] * 6


def test_of_a_large_collection_every_image_counts_for_relevance(tmp_path):
    """One in 25,000 is what the background is nearest to, and nobody's sample."""
    vectors = np.tile(np.array([0.6, 0, 0.8], np.float32), (25_000, 1))
    sampled = np.random.default_rng(0).choice(25_000, 20_000, replace=False)
    vectors[np.setdiff1d(np.arange(25_000), sampled)[0]] = [-0.6, -0.8, 0]
    with Collection.open(made(tmp_path / "many.collection", vectors, map(str, range(25_000))), encoder=East()) as opened:
        (hit,) = opened.search("east", 1, min_score=-1)
        assert (round(hit.score, 2), hit.relevance) == (0.6, 0)  # and the background reaches 1
        assert opened.search("east", 1, min_score="auto") == []


def test_diverse(opened):
    # After 0 come those at a right angle to it: 2 and 3, then whichever is less like them.
    assert found(opened, 3, diverse=0.3) == [(0, 1), (2, 0), (3, 0)]
    assert found(opened, 3, diverse=1) == [(0, 1), (4, 1), (1, 0.96)]


def test_diverse_results_are_calibrated(calibrated):
    plain = found(calibrated)
    assert plain == [(3, 0), (2, 0), (0, 1), (4, 1), (5, 0.6), (1, 0.96)]
    assert found(calibrated, diverse=1) == plain
    assert found(calibrated, 2, diverse=0.9) == [(3, 0), (2, 0)]


def test_least_scores_find_what_calibration_held_back(calibrated):
    assert found(calibrated, 1, min_score=0.5) == [(0, 1)]
    assert found(calibrated, 2, min_score=0.5) == [(0, 1), (4, 1)]
    assert found(calibrated, 3, min_score=0.95) == [(0, 1), (4, 1), (1, 0.96)]
    assert found(calibrated, 1, min_score="auto") == [(0, 1)]
    assert found(calibrated, 1, min_score=0.5, where="height = 15") == [(5, 0.6)]
    assert found(calibrated, 6, min_score=0.99, calibrated=False) == [(0, 1), (4, 1)]


def test_how_far_a_least_score_looks(calibrated, monkeypatch):
    """Until the last calibrated score and the largest bias, 2, are too little."""
    widths, search = [], Nearest.search
    monkeypatch.setattr(Nearest, "search", lambda self, queries, vectors, k: (
        widths.append(k) or search(self, queries, vectors, k)
    ))
    assert found(calibrated, 1, min_score=1) == [(0, 1)]  # not in the first, 0, but 4 beyond it
    assert found(calibrated, 4, min_score=0.99) == [(0, 1), (4, 1)]  # at most -0.92 + 2 are beyond 4
    assert found(calibrated, 5, min_score=0.97) == [(0, 1), (4, 1)]  # -1 + 2 are beyond 5
    assert widths == [1, 4, 4, 6, 5, 6]


def test_everything_at_once(opened):
    hits = opened.search("east", 2, rerank=Backwards(), min_score=0.5, dedup=0.99, diverse=1)
    # Reranked 1, 0, 4 (the first three, backwards), then 5; 4 is 0 again.
    assert [(hit.id, hit.rank, hit.duplicates) for hit in hits] == [("1.jpg", 1, 0), ("0.jpg", 2, 1)]
    assert [hit.rerank_score for hit in hits] == pytest.approx([-0.96, -1], abs=1e-3)
    assert hits[0].as_json() == {
        "query": "east", "rank": 1, "score": round(hits[0].score, 6), "id": "1.jpg", "path": "/photos/1.jpg",
        "relevance": round(hits[0].relevance, 6), "rerank_score": round(hits[0].rerank_score, 6), "duplicates": 0,
    }


@pytest.mark.parametrize(("how", "before", "after"), [
    ({}, [(0, 1), (4, 1), (1, 0.96)], [(4, 1), (5, 0.6), (2, 0)]),
    ({"min_score": 0.3}, [(0, 1), (4, 1), (1, 0.96)], [(4, 1), (5, 0.6)]),
    ({"rerank": Backwards()}, [(1, 0.96), (0, 1), (4, 1)], [(2, 0), (5, 0.6), (4, 1)]),
])
def test_what_others_forget_meanwhile_makes_room_for_the_next_best(opened, how, before, after):
    assert found(opened, 3, **how) == before
    with Catalog.open(opened.path, writable=True) as writer:
        writer.forget(["/photos/0.jpg", "/photos/1.jpg"])
    assert found(opened, 3, **how) == after


def test_captions_are_refused(opened):
    with pytest.raises(QueryError):
        opened.search("east", 1, within="captions", dedup=0.9)


def test_groups_of_the_collection(opened):
    (near,) = duplicate_groups(opened, 0.95)
    assert (near.kind, [file.id for file in near.files]) == ("near", ["4.jpg", "1.jpg", "0.jpg"])
    assert near.scores == pytest.approx([1, 0.96, 1], abs=1e-3)
    (exact,) = duplicate_groups(opened, None)
    assert (exact.kind, [file.id for file in exact.files]) == ("exact", ["4.jpg", "0.jpg"])
    # At 0.79 a chain joins 1 and 5 (0.8), 5 and 2 (0.8) as well; 3 stays alone.
    (chain,) = duplicate_groups(opened, 0.79)
    assert sorted(file.id for file in chain.files) == ["0.jpg", "1.jpg", "2.jpg", "4.jpg", "5.jpg"]
