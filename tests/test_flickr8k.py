"""The promise of the README, kept through the command line: recall on the Flickr8k test split."""

import json
import subprocess
import sys
import tarfile

import pytest


def retrieval(*arguments) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "retrieval", *map(str, arguments), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow  # a minute or two
@pytest.mark.flickr8k
def test_built_in_encoder_on_the_test_split(flickr8k, tmp_path):
    with tarfile.open(flickr8k / "test.tar") as archive:
        archive.extractall(tmp_path / "photos", filter="data")
    collection = tmp_path / "flickr8k.collection"
    report = retrieval("index", tmp_path / "photos", "-o", collection, "--model", "builtin")
    assert (report["images"], report["encoded"], report["skipped"]) == (1000, 1000, [])
    result = retrieval("benchmark", collection, "--captions", flickr8k / "captions.tsv", "--split", "test")
    (model,) = result["models"]
    assert (model["images"], model["captions"], model["problems"]) == (1000, 5000, {})
    found = {one["direction"]: one["metrics"] for one in model["results"]}
    # as in the model card, with room for how other hardware rounds
    for direction, k, fraction in (
        ("text_to_image", "R@1", 0.326), ("text_to_image", "R@10", 0.761),
        ("image_to_text", "R@1", 0.401), ("image_to_text", "R@10", 0.811),
    ):
        value, low, high = found[direction][k]
        assert value == pytest.approx(fraction, abs=0.01), (direction, k)
        assert low < value < high and high - low < 0.08
    (index,) = result["indexes"]  # a flat index of float16 vectors loses nothing
    assert index["exact"] == index["codes"] == index["found"] and index["ann_recall@10"] == 1.0
    assert index["exact"]["R@10"][0] == found["text_to_image"]["R@10"][0]
