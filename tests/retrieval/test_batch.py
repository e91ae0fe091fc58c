import json
import shutil

import numpy as np
import pytest

from retrieval import batch
from retrieval.batch import answer
from retrieval.collection import Collection
from retrieval.maintain import Options, index_sources
from retrieval.wanted import Refinement, Wanted
from retrieval.where import parse


@pytest.fixture(scope="module")
def opened(tmp_path_factory, sample_photos, tiny_encoder):
    folder = tmp_path_factory.mktemp("batch")
    (folder / "photos").mkdir()
    for path in sample_photos[:8]:
        shutil.copyfile(path, folder / "photos" / path.name)
    index_sources([folder / "photos"], folder / "photos.collection", Options(tiny_encoder.name, "cpu", "float32"))
    with Collection.open(folder / "photos.collection", encoder=tiny_encoder, remember_queries=False) as opened:
        yield opened


def answered(opened, lines, settings=Wanted(k=1)):
    """(hits of each query, what was refused)."""
    refused = []
    found = answer(opened, lines, settings, lambda line, error: refused.append((line, str(error))))
    return [hits for _, hits in found], refused


def test_each_line_is_answered_as_by_itself(opened, monkeypatch):
    monkeypatch.setattr(batch, "AT_ONCE", 3)
    id = opened.catalog.indexed()[0][0]
    lines = ["a dog\n", "\n", "a cat + a dog", '  {"query": "a cup", "k": 2}', "  ", f"id:{id}", "{in braces}", "last"]
    hits, refused = answered(opened, lines)
    asked = ["a dog", "a cat + a dog", "a cup", f"id:{id}", "{in braces}", "last"]
    assert refused == []
    for query, found in zip(asked, hits, strict=True):
        expected = opened.search(query, 2 if query == "a cup" else 1)
        assert [(hit.query, hit.rank, hit.id) for hit in found] == [(one.query, one.rank, one.id) for one in expected]
        np.testing.assert_allclose([hit.score for hit in found], [one.score for one in expected], atol=1e-5)
    assert hits[3][0].id == id


def test_byte_order_marks_are_no_part_of_queries(opened):
    id = opened.catalog.indexed()[0][0]
    hits, refused = answered(opened, [f"\ufeffid:{id}\n", '\ufeff{"query": "a dog"}\n', "\ufeff\n"])
    assert [found[0].query for found in hits] == [f"id:{id}", "a dog"] and hits[0][0].id == id
    assert refused == []


def test_a_few_lines_are_in_memory_at_once(opened, monkeypatch):
    monkeypatch.setattr(batch, "AT_ONCE", 4)
    taken = []

    def lines():
        for number in range(12):
            taken.append(number)
            yield f"query {number}"

    hits = answer(opened, lines(), Wanted(k=1), None)
    assert next(hits)[1][0].query == "query 0" and len(taken) == 4
    assert [(asked.line, found[0].query) for asked, found in hits] == [(at + 1, f"query {at}") for at in range(1, 12)]


def test_filters_of_lines_and_of_all(opened):
    ids = [id for id, _ in opened.catalog.indexed()]
    settings = Wanted(k=8, where=parse(f"id != '{ids[0]}'"))
    lines = [json.dumps({"query": "a", "where": f"id in ('{ids[0]}', '{ids[1]}')"}), "a", '{"query": "a", "where": "id = x"}']
    hits, refused = answered(opened, lines, settings)
    assert [sorted(hit.id for hit in found) for found in hits] == [[ids[1]], sorted(ids[1:]), []]
    assert refused == []


def test_bad_lines_are_named_and_the_others_answered(opened, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    lines = [
        "a dog", '"unbalanced', str(bad), "id:nowhere.jpg", '{"k": 3}', '{"query": "a", "k": 0}',
        '{"query": "a", "k": true}', '{"query": 3}', '{"query": "a", "kk": 3}', '{"query": "a", "where": "foo = 1"}',
        "b - b", "./missing.jpg", '{"query": "a", "k": 99}', '{"query": "id:\\ud800"}', "a cat",
    ]
    hits, refused = answered(opened, lines)
    assert [found[0].query for found in hits] == ["a dog", "a cat"]
    said = dict(refused)
    assert sorted(said) == list(range(2, 15))
    for line, words in {
        2: "The quote at position 1", 3: "bad.jpg: not an image", 4: "no image with the id nowhere.jpg",
        5: 'An object needs a "query"', 6: "k is 0", 7: "k is true; it has to be a whole number",
        8: "query is 3; it has to be a text", 9: "nothing called 'kk'", 10: "no field foo", 11: "cancel each other out",
        12: "no image file ./missing.jpg", 13: "ask for at most 8", 14: "no image with the id \ud800",
    }.items():
        assert words in said[line]


class Nothing:
    """Scores nothing above anything."""

    name, depth = "nothing", 3

    def scores(self, query, images, first):
        return 0 * first


@pytest.mark.parametrize(("how", "line", "said"), [
    (Refinement("auto"), "id:{id}", "not of words alone"),
    (Refinement(rerank=Nothing()), "a cat + a dog", "cannot be reranked"),
])
def test_lines_that_cannot_be_refined_are_named_and_the_others_answered(opened, how, line, said):
    bad = line.format(id=opened.catalog.indexed()[0][0])
    hits, refused = answered(opened, ["a dog", bad, "a cat", "a cup"], Wanted(1, refinement=how))
    assert [line for line, _ in refused] == [2] and said in refused[0][1]
    assert len(hits) == 3
    for query, found in zip(("a dog", "a cat", "a cup"), hits):
        expected = opened.search(query, 1, min_score=how.min_score, rerank=how.rerank)
        assert [(hit.query, hit.id) for hit in found] == [(hit.query, hit.id) for hit in expected]
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-5)


def test_progress_counts_lines(opened, monkeypatch):
    monkeypatch.setattr(batch, "AT_ONCE", 2)
    counts = []
    list(answer(opened, ["a", '"b', "", "c"], Wanted(k=1), lambda *_: None, counts.append))
    assert counts == [2, 1]


def test_nothing_else_is_caught(opened):
    def lines():
        yield "a"
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        list(answer(opened, lines(), Wanted(k=1), lambda *_: None))
