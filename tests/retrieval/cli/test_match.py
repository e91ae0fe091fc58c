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


@pytest.mark.parametrize(("options", "said"), [
    (["--task", "match", "--dim", 4], "--dim means nothing to --task match"),
    (["--task", "match", "--held-out", 4], "--held-out means nothing to --task match"),
    (["--task", "match", "--changes-only"], "--changes-only means nothing to --task match"),
    (["--minutes", 4], "--minutes is for --task match"),
    (["--delta", 0.01], "--delta is for --epsilon"),
    (["--epsilon", 4, "--lora", 2], "--epsilon means nothing where towers learn"),
])
def test_options_of_the_other_task(run, demo_photos, tmp_path, options, said):
    done = run("train", demo_photos, "--captions", CAPTIONS, "-o", tmp_path / "out", *options)
    assert done.status == 2 and said in " ".join(done.err.split())
    assert not (tmp_path / "out").exists()
