"""`--with-captions` and what the other commands make of it."""

import os

import numpy as np
import pytest

from retrieval.catalog import Catalog
from retrieval.documents import Takeover

SAID = {"chelsea.png": ("a cat",), "coffee.png": ("a cup\tof coffee", "a cat")}


@pytest.fixture
def described(collection):
    """The collection, in which captions are kept."""
    with Catalog.open(collection, writable=True) as catalog:
        files, ids = catalog.known_files(), catalog.ids_by_path()
        catalog.commit((), (), [Takeover(file, files[file], id, SAID[id]) for file, id in ids.items() if id in SAID])
    return collection


def test_index_search_and_info(run, described, photo_folder, tiny_encoder):
    refused = run("search", described, "a cat", "--in", "captions")
    assert refused.status == 1 and f"retrieval index SOURCE --with-captions -o {described}" in refused.err
    (report,) = run("index", photo_folder, "-o", described, "--with-captions", "--json").objects
    assert (report["encoded"], report["captions"], report["captions_encoded"]) == (0, 3, 2)

    own = tiny_encoder.encode_texts(["a cat", "a cup\tof coffee"])
    hits = run("search", described, "a cat", "--in", "captions", "--json").objects
    assert [(hit["rank"], hit["caption"], hit["id"]) for hit in hits] == [
        (1, "a cat", "chelsea.png"), (2, "a cat", "coffee.png"), (3, "a cup\tof coffee", "coffee.png")]
    np.testing.assert_allclose([hit["score"] for hit in hits], [1, 1, own[0] @ own[1]], atol=1e-3)
    rows = run("search", described, photo_folder / "coffee.png", "--in", "captions").rows
    assert rows[0] == ["query", "rank", "score", "caption", "path"]
    assert {tuple(row[3:]) for row in rows[1:]} == {
        (text.replace("\t", r"\t"), str(photo_folder / id)) for id, texts in SAID.items() for text in texts}
    assert "caption" not in run("search", described, "a cat", "--json").objects[0]
    assert run("search", described, "a cat", "--in", "captions", "-k", "4").status == 1

    (facts,) = run("info", described, "--json").objects
    assert (facts["images"], facts["captions"], facts["captions_embedded"], facts["dead_rows"]) == (6, 3, 3, 0)
    assert facts["index_current"] is True
    assert "3 (3 embedded)" in run("info", described).out


def test_the_index_of_captions_is_told_as_that_of_images(run, described, photo_folder):
    assert run("info", described, "--json").objects[0]["captions_index"] is None
    assert run("index", photo_folder, "-o", described, "--with-captions", "--index", "HNSW8").status == 0
    (facts,) = run("info", described, "--json").objects
    told = facts["captions_index"]
    assert (told["index"], told["index_rows"], told["index_current"]) == ("HNSW8", 2, True)
    assert told["tuning"]["text_recall"][0] == 1 and told["index_bytes_per_vector"] > 128
    os.truncate(described / "captions.faiss", 1000)
    (facts,) = run("info", described, "--json").objects
    assert facts["index_current"] is True and facts["captions_index"]["index_current"] is False
    shown = [line.strip().split("  ")[0] for line in run("info", described).out.splitlines()]
    assert {"captions index", "captions bytes per vector", "captions text recall", "captions latency"} <= set(shown)


def test_without_captions_drops_their_vectors(run, described, photo_folder):
    shown = run("index", photo_folder, "-o", described, "--with-captions").out
    assert "captions        3" in shown and "newly embedded  2" in shown
    assert "newly embedded" not in run("index", photo_folder, "-o", described, "--without-captions").out
    (facts,) = run("info", described, "--json").objects
    assert (facts["captions"], facts["captions_embedded"], facts["dead_rows"]) == (3, 0, 2)


def test_a_benchmark_asks_with_them_unless_others_are_given(run, described, tmp_path):
    (result,) = run("benchmark", described, "--json").objects
    (model,) = result["models"]
    assert (model["images"], model["captions"]) == (6, 3)
    assert "Captions are those that the collection keeps of its images." in result["rules"]
    (tmp_path / "c.csv").write_text("image,caption\nrocket.jpg,a rocket\n")
    (result,) = run("benchmark", described, "--captions", tmp_path / "c.csv", "--json").objects
    assert result["models"][0]["captions"] == 1
    refused = run("benchmark", described, "--split", "test")
    assert refused.status == 1 and "have no splits" in refused.err


def test_a_collection_without_any_still_needs_a_file(run, collection):
    refused = run("benchmark", collection)
    assert refused.status == 1 and "Give captions: --captions FILE" in refused.err
