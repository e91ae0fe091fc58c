"""`retrieval calibrate`, and what it does to searches and benchmarks."""

import csv

import numpy as np
import pytest

from retrieval.calibration import Calibration

THINGS = ("dog", "boat", "house", "street", "tree", "child", "horse", "bike", "beach", "train")


@pytest.fixture
def captions(tmp_path):
    """80 captions of images that are elsewhere, one of them twice."""
    path = tmp_path / "captions.csv"
    texts = [f"a {one} near a {other}" for one in THINGS[:8] for other in THINGS]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *((f"{n}.jpg", text) for n, text in enumerate(texts)),
                                    ("1.jpg", "A dog  near a boat")])
    return path


@pytest.fixture(autouse=True)
def tiny(loaded_once):
    """The encoder is the tiny one, and loaded."""


def order(run, collection, *more):
    done = run("search", collection, "a dog near a boat", "--json", *more)
    assert done.status == 0, done.err
    return [(one["id"], one["score"]) for one in done.objects]


def test_searches_for_words_are_calibrated_until_it_is_switched_off(run, collection, captions, tiny_encoder):
    before = order(run, collection)
    done = run("calibrate", collection, "--captions", captions, "--json")
    assert done.status == 0, done.err
    assert done.objects == [{"collection": str(collection), "weight": 0.75, "k": 128, "references": 80,
                             "captions": 0, "images": 0}]
    saved = Calibration.load(collection / "calibration" / "references.safetensors")
    assert saved.source == "captions.csv" and len(set(saved.hashes.tolist())) == 80
    after, scores = order(run, collection), dict(before)
    assert sorted(after) == sorted(before)  # the same images and cosines
    (file,) = (collection / "calibration").glob("biases-*.npy")
    biases = np.load(file)
    assert biases.std() > 0
    from retrieval.catalog import Catalog

    with Catalog.open(collection) as catalog:
        less = {id: scores[id] - biases[row] for id, row in catalog.indexed()}
    found = [less[id] for id, _ in after]
    assert found == sorted(found, reverse=True)
    assert order(run, collection, "--no-calibration") == before
    assert run("calibrate", collection, "--off").status == 0
    assert order(run, collection) == before


def test_a_benchmark_says_both_and_refuses_its_own_references(run, collection, captions, tmp_path):
    assert run("calibrate", collection, "--captions", captions).status == 0
    asked = tmp_path / "asked.csv"
    asked.write_text("image,caption\nchelsea.png,the face of a cat\ncoffee.png,a cup of coffee\n")
    (result,) = run("benchmark", collection, "--captions", asked, "--json").objects
    (model,) = result["models"]
    assert [one["direction"] for one in model["calibrated"]] == ["text_to_image"]
    assert any("--no-calibration" in rule for rule in result["rules"])
    rows = run("benchmark", collection, "--captions", asked).rows
    assert {row[3] for row in rows} >= {"text_to_image", "text_to_image calibrated", "image_to_text"}
    asked.write_text("image,caption\nchelsea.png,a DOG near a boat\ncoffee.png,a cup of coffee\n")
    done = run("benchmark", collection, "--captions", asked)
    assert done.status == 1 and done.err.startswith("Error: 1 of the 2 captions are among the references")
    (result,) = run("benchmark", collection, "--captions", asked, "--no-calibration", "--json").objects
    assert result["models"][0]["calibrated"] == []


@pytest.mark.parametrize("arguments", [[], ["--off", "--captions", "c.csv"]])
def test_say_what_to_calibrate_with(run, tmp_path, arguments):
    done = run("calibrate", tmp_path, *arguments)
    assert done.status == 2 and "--captions FILE; or --off" in done.err


def test_too_few_captions(run, collection, tmp_path):
    few = tmp_path / "few.csv"
    few.write_text("image,caption\nx.jpg,a dog\n")
    done = run("calibrate", collection, "--captions", few)
    assert done.status == 1 and "few.csv leaves 1 captions to calibrate with; at least 64" in done.err
    assert not (collection / "calibration").exists()
