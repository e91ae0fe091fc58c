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


@pytest.mark.flickr8k
def test_built_in_encoder_on_the_test_split(flickr8k, tmp_path):
    with tarfile.open(flickr8k / "test.tar") as archive:
        archive.extractall(tmp_path / "photos", filter="data")
    collection = tmp_path / "flickr8k.collection"
    report = retrieval("index", tmp_path / "photos", "-o", collection, "--model", "builtin")
    assert (report["images"], report["encoded"], report["skipped"]) == (1000, 1000, [])
    result = retrieval("benchmark", collection, "--captions", flickr8k / "captions.tsv", "--split", "test")
    assert (result["images"], result["captions"], result["missing_files"]) == (1000, 5000, 0)
    # as in the model card, with room for how other hardware rounds
    for direction, k, percent in (
        ("text_to_image", "R@1", 23.8), ("text_to_image", "R@10", 66.2),
        ("image_to_text", "R@1", 29.3), ("image_to_text", "R@10", 72.4),
    ):
        assert result[direction][k] == pytest.approx(percent, abs=1.0), (direction, k)
