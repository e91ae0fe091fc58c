"""A cross-encoder from end to end: trained by the command, used by the search."""

import json
from pathlib import Path

import pytest

from retrieval import demo


CAPTIONS = Path(demo.__file__).with_name("captions.tsv")


def test_trained_and_searched_with(run, demo_photos, tmp_path):
    folder = tmp_path / "match"
    done = run("train", demo_photos, "--captions", CAPTIONS, "--task", "match", "--epochs", 1, "-o", folder, "--json")
    assert done.status == 0, done.err
    (said,) = done.objects
    assert (said["model"], said["photos"]) == (str(folder), 19)
    recorded = json.loads((folder / "match.json").read_text())
    assert recorded["training"]["settings"]["epochs"] == 1 and recorded["training"]["captions"] == said["captions"]
    assert said["held_out"] is None and recorded["weight"] == 1.0  # two photos would tell nothing

    collection = tmp_path / "demo.collection"
    assert run("index", demo_photos, "-o", collection, "--model", "builtin").status == 0
    own = {one["id"]: one["score"] for one in run("search", collection, "a cat", "-k", 19, "--json").objects}
    reranked = run("search", collection, "a cat", "-k", 19, "--rerank", folder, "--json").objects
    assert {one["id"]: one["score"] for one in reranked} == own
    scores = [one["rerank_score"] for one in reranked]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 19
    assert run("search", collection, "a cat", "-k", 19, "--rerank", folder, "--json").objects == reranked

    done = run("search", collection, demo_photos / "coffee.png", "--rerank", folder)
    assert done.status == 1 and "a cross-encoder reads a text with an image" in done.err


def test_photos_held_out_tell_what_it_is_worth(run, demo_photos, tmp_path):
    folder = tmp_path / "match"
    arguments = ("train", demo_photos, "--captions", CAPTIONS, "--task", "match", "--epochs", 1, "--held-out", 6, "-o", folder)
    (said,) = run(*arguments, "--json").objects
    lift, recorded = said["held_out"], json.loads((folder / "match.json").read_text())
    assert (said["photos"], lift["photos"]) == (13, 6)
    assert recorded["weight"] == lift["weight"] and recorded["training"]["held_out"] == lift
    assert lift["low"] <= lift["after"] - lift["before"] <= lift["high"]
    done = run(*arguments)
    assert f"R@1 text to image among 6 photos {100 * lift['before']:.1f}, reranked {100 * lift['after']:.1f}" in done.out
    assert ("Use it: " in done.out) == (lift["weight"] > 0) == ("It does not help" not in done.err)


def test_too_few_photos_to_learn_from(run, demo_photos, tmp_path):
    done = run("train", demo_photos, "--captions", CAPTIONS, "--task", "match", "--held-out", 15, "-o", tmp_path / "match")
    assert done.status == 1 and "4 captioned images are too few" in done.err and "--held-out" in done.err
    assert not (tmp_path / "match").exists()


@pytest.mark.parametrize(("options", "said"), [
    (["--task", "match", "--dim", 4], "--dim means nothing to --task match"),
    (["--task", "match", "--changes-only"], "--changes-only means nothing to --task match"),
    (["--minutes", 4], "--minutes is for --task match"),
    (["--delta", 0.01], "--delta is for --epsilon"),
    (["--epsilon", 4, "--lora", 2], "--epsilon means nothing where towers learn"),
])
def test_options_of_the_other_task(run, demo_photos, tmp_path, options, said):
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "out", *options)
    assert done.status == 2 and said in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()
