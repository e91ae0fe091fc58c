import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image

from indexes import exact_search
from retrieval.collection import Collection
from retrieval.errors import QueryError
from retrieval.maintain import Options, index_sources
from retrieval.rank.rerank import EncoderReranker
from retrieval.rank.vector_cache import VectorCache


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample_photos, tiny_encoder):
    """Every sample photo, chelsea.png three times as it is, and rocket.jpg a second time at half the size."""
    folder = tmp_path_factory.mktemp("made") / "photos"
    folder.mkdir()
    by_name = {path.name: path for path in sample_photos}
    for path in sample_photos:
        shutil.copyfile(path, folder / path.name)
    for name in ("copy-1.png", "copy-2.png"):
        shutil.copyfile(by_name["chelsea.png"], folder / name)
    with Image.open(by_name["rocket.jpg"]) as rocket:
        rocket.resize((rocket.width // 2, rocket.height // 2), Image.Resampling.LANCZOS).save(folder / "rocket-half.png")
    path = folder.parent / "photos.collection"
    index_sources([folder], path, Options(tiny_encoder.name, "cpu", "float32"))
    return path


@pytest.fixture
def opened(made, tiny_encoder):
    with Collection.open(made, encoder=tiny_encoder) as collection:
        yield collection


def ids(hits):
    return [hit.id for hit in hits]


def test_dedup_fills_up_with_others(opened, made):
    cat = str(made.parent / "photos" / "chelsea.png")
    plain = opened.search(cat, 3)
    assert sorted(ids(plain)) == ["chelsea.png", "copy-1.png", "copy-2.png"]
    everything = opened.search(cat, len(opened), dedup=1)
    assert len(everything) == len(opened) - 2
    assert (everything[0].duplicates, everything[0].rank) == (2, 1)
    assert sum(hit.duplicates for hit in everything) == 2
    shown = opened.search(cat, 3, dedup=1)
    assert ids(shown) == ids(everything)[:3]
    assert [hit.rank for hit in shown] == [1, 2, 3]
    assert [hit.score for hit in shown] == pytest.approx([hit.score for hit in everything[:3]])


def test_a_smaller_copy_is_a_near_duplicate(opened, made):
    rocket = str(made.parent / "photos" / "rocket.jpg")
    first, second = opened.search(rocket, 2)
    assert {first.id, second.id} == {"rocket.jpg", "rocket-half.png"}
    collapsed = opened.search(rocket, 2, dedup=second.score - 1e-3)
    assert collapsed[0].id == "rocket.jpg" and collapsed[0].duplicates >= 1
    assert "rocket-half.png" not in ids(collapsed)


def test_a_least_score_cuts_the_list(opened):
    hits = opened.search("a cat", len(opened))
    bound = (hits[4].score + hits[5].score) / 2
    assert ids(opened.search("a cat", 10, min_score=bound)) == ids(hits)[:5]
    assert opened.search(["a cat", "a dog"], 3, min_score=1.0) == []


def test_auto_gives_relevance_and_leaves_out_what_has_little(opened, tiny_encoder):
    from retrieval.rank.relevance import relevance_model

    model = relevance_model(partial(exact_search, opened.vectors.take(np.arange(len(opened)))), tiny_encoder)
    every = opened.search("a cat", len(opened))
    expected = [(hit.id, share) for hit, share in zip(every, model.of([hit.score for hit in every])) if share >= 0.5]
    found = opened.search("a cat", len(opened), min_score="auto")
    assert [(hit.id, hit.relevance) for hit in found] == [(id, pytest.approx(share, abs=0.01)) for id, share in expected]


def test_auto_is_for_texts(opened, made):
    with pytest.raises(QueryError, match="coffee.png is not of words alone, and min-score auto is estimated for texts. Give a number"):
        opened.search(str(made.parent / "photos" / "coffee.png"), 3, min_score="auto")


def test_a_least_score_shows_relevance_too(opened):
    (hit,) = opened.search("a cat", 1, min_score=-1)
    assert 0 <= hit.relevance <= 1 and hit.as_json()["relevance"] == round(hit.relevance, 6)
    assert "relevance" not in opened.search("a cat", 1)[0].as_json()


def test_diverse_results_are_less_alike(opened, made):
    cat = str(made.parent / "photos" / "chelsea.png")
    copies = {"chelsea.png", "copy-1.png", "copy-2.png"}
    assert len(copies & set(ids(opened.search(cat, 3)))) == 3
    assert len(copies & set(ids(opened.search(cat, 3, diverse=0)))) == 1


@pytest.fixture
def reranker(other_model, tmp_path):
    from retrieval.encoders import load_encoder

    encoder = load_encoder(f"local-dir:{other_model}", device="cpu", precision="float32")
    return EncoderReranker(encoder, VectorCache(tmp_path, encoder.fingerprint, (encoder.dim,)))


def test_reranked_by_another_encoder_it_is_as_if_searched_with_that(opened, made, other_model, reranker, tmp_path):
    path = tmp_path / "other.collection"
    index_sources([made.parent / "photos"], path, Options(str(other_model), "cpu", "float32"))
    with Collection.open(path) as other:
        theirs = {hit.id: hit.score for hit in other.search("a cat", len(other))}
    own = {hit.id: hit.score for hit in opened.search("a cat", len(opened))}
    hits = opened.search("a cat", 5, rerank=reranker)
    best = sorted(theirs.values(), reverse=True)[:5]
    np.testing.assert_allclose([hit.rerank_score for hit in hits], best, atol=2e-3)
    np.testing.assert_allclose([theirs[hit.id] for hit in hits], best, atol=2e-3)
    np.testing.assert_allclose([hit.score for hit in hits], [own[hit.id] for hit in hits], atol=1e-6)


def test_captions_are_not_refined(opened):
    with pytest.raises(QueryError):
        opened.search("a cat", 1, within="captions", dedup=0.9)


def test_several_queries_keep_their_order(opened):
    hits = opened.search(["a cat", "a rocket"], 2, dedup=0.99)
    assert [(hit.query, hit.rank) for hit in hits] == [("a cat", 1), ("a cat", 2), ("a rocket", 1), ("a rocket", 2)]
