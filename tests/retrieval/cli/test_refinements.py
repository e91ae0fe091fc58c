import shutil

import pytest


NEAREST = "See what comes nearest: leave out --min-score."


@pytest.fixture
def doubled(run, photo_folder, tiny_model, tmp_path):
    """The photo folder with rocket.jpg a second time."""
    shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "again.jpg")
    path = tmp_path / "doubled.collection"
    assert run("index", photo_folder, "-o", path, "--model", tiny_model).status == 0
    return path


def test_dedup_shows_a_picture_once_and_how_often_it_comes(run, doubled, photo_folder):
    rocket = photo_folder / "rocket.jpg"
    done = run("search", doubled, rocket, "-k", 2, "--dedup=1")
    assert done.status == 0, done.err
    header, first, second = done.rows
    assert header == ["query", "rank", "score", "duplicates", "path"]
    assert first[3:] == ["1", str(photo_folder / "again.jpg")] and first[2] == "1.0000"
    assert second[3] == "0"
    records = run("search", doubled, rocket, "-k", 2, "--dedup", "1", "--json").objects
    assert [record["duplicates"] for record in records] == [1, 0]


def test_without_a_value_the_options_take_their_defaults(run, doubled):
    done = run("search", doubled, "a rocket", "-k", 1, "--diverse", "--dedup")
    assert done.status == 0, done.err
    assert done.rows[0] == ["query", "rank", "score", "duplicates", "path"]


def test_nothing_scores_high_enough(run, doubled):
    done = run("search", doubled, "a rocket", "--min-score", "0.99")
    assert (done.status, done.rows) == (0, [["query", "rank", "score", "path"]])
    assert done.err == f"Nothing scores high enough for 'a rocket'. {NEAREST}\n"
    assert run("search", doubled, "a rocket", "--min-score", "0.99", "--json").out == ""


def test_each_query_that_nothing_scores_high_enough_for_is_named(run, doubled, photo_folder):
    rocket = photo_folder / "rocket.jpg"
    done = run("search", doubled, "a cat", rocket, "a dog", "--min-score", "0.99", "--json")
    assert {hit["query"] for hit in done.objects} == {str(rocket)}
    assert done.err.splitlines() == [f"Nothing scores high enough for {query!r}. {NEAREST}" for query in ("a cat", "a dog")]
    lines = f'{rocket}\na cat\n{{"query": "a dog", "where": "width > 100000"}}\n'
    done = run("search", doubled, "-", "--min-score", "0.99", "--json", stdin=lines)
    assert {hit["query"] for hit in done.objects} == {str(rocket)}
    assert done.err.splitlines() == [
        f"Line 2: Nothing scores high enough for 'a cat'. {NEAREST}",
        f"Line 3: No image of {doubled} passes the filter.",
    ]


def test_raw_and_calibrated_scores_stand_side_by_side(run, doubled):
    records = run("search", doubled, "a rocket", "--min-score=-1", "--json").objects
    assert len(records) == 7
    assert all(0 <= record["relevance"] <= 1 and -1 <= record["score"] <= 1 for record in records)
    assert [record["relevance"] for record in records] == sorted((r["relevance"] for r in records), reverse=True)
    auto = run("search", doubled, "a rocket", "--min-score", "auto", "--json").objects
    assert auto == [record for record in records if record["relevance"] >= 0.5]


def test_rerank_by_another_model(run, doubled, other_model, photo_folder, tmp_path):
    other = tmp_path / "other.collection"
    assert run("index", photo_folder, "-o", other, "--model", other_model).status == 0
    theirs = run("search", other, "a rocket", "--json").objects
    reranked = run("search", doubled, "a rocket", "--rerank", other_model, "--json").objects
    scores = [record["rerank_score"] for record in reranked]
    assert scores == pytest.approx([record["score"] for record in theirs], abs=2e-3)
    assert sorted(scores, reverse=True) == scores
    own = {record["id"]: record["score"] for record in run("search", doubled, "a rocket", "--json").objects}
    assert {record["id"]: record["score"] for record in reranked} == own


@pytest.mark.parametrize(("options", "said"), [
    (["--dedup", "a rocket"], "'a rocket' is not a number from 0 to 1. If it is your query, put it before --dedup."),
    (["x", "--diverse", "1.5"], "1.5 is not a number from 0 to 1."),
    (["x", "--min-score", "nan"], "nan is not a number from -1 to 1, or auto."),
    (["x", "--min-score", "high"], "'high' is not a number from -1 to 1, or auto."),
    (["x", "--dedup", "auto"], "'auto' is not a number"),
    (["x", "--templates", "maybe"], "'maybe' is not one of"),
])
def test_bad_values(run, tmp_path, options, said):
    done = run("search", tmp_path, *options)
    assert done.status == 2 and said in " ".join(done.err.replace("│", " ").split())


def test_an_image_asks_for_a_number(run, doubled, photo_folder):
    done = run("search", doubled, photo_folder / "rocket.jpg", "--min-score", "auto")
    assert done.status == 1 and "min-score auto is estimated for texts" in done.err


def test_an_unknown_model_to_rerank_by(run, doubled):
    done = run("search", doubled, "x", "--rerank", "ViT-B-99")
    assert done.status == 1 and "ViT-B-99" in done.err


def test_an_empty_name_to_rerank_by(run, doubled):
    done = run("search", doubled, "x", "--rerank", "")
    assert (done.status, done.out) == (1, "") and "The name of the model to rerank by is empty" in done.err


def test_captions_are_not_refined(run, doubled):
    done = run("search", doubled, "x", "--in", "captions", "--dedup")
    assert done.status == 1
