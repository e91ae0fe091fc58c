"""`retrieval index --index, --memory, --target-recall, --retune`, and what `info` tells of it."""

import os
import shutil
from dataclasses import replace

import pytest

from retrieval.manifest import Manifest


def test_few_images_are_searched_exactly_unless_told_otherwise(run, collection):
    (facts,) = run("info", collection, "--json").objects
    assert (facts["index"], facts["index_asked"], facts["target_recall"]) == ("Flat", "auto", 0.95)
    assert facts["tuning"] is None and facts["index_rows"] == 6
    assert "1 (exact search)" in run("info", collection).out


def test_what_a_sketch_takes_is_told(run, collection):
    (facts,) = run("info", collection, "--json").objects
    assert "sketch_bytes_per_vector" not in facts and "reads first" not in run("info", collection).out
    (collection / "vectors" / "rows.sketch").write_bytes(b"\0" * 6 * 130)
    (facts,) = run("info", collection, "--json").objects
    assert facts["sketch_bytes_per_vector"] == 130
    assert "130 bytes per vector, which exact search reads first" in run("info", collection).out


def test_the_index_alone_is_changed_then_tuned_and_told(run, collection):
    done = run("index", "-o", collection, "--index", "HNSW8", "--target-recall", "0.9", "--json")
    assert done.status == 0, done.err
    (facts,) = run("info", collection, "--json").objects
    assert (facts["index"], facts["index_asked"], facts["target_recall"]) == ("HNSW8", "HNSW8", 0.9)
    tuning = facts["tuning"]
    assert tuning["reached"] and tuning["text_recall"][0] == 1  # of six images ten are all
    assert (tuning["text_queries"], tuning["texts"]) == (1000, "generic queries")
    assert facts["index_rows_since_training"] == 0 and facts["index_bytes_per_vector"] > 128
    assert facts["index_settings"]["ef_search"] == 10 and facts["index_current"] is True
    (told,) = done.objects
    assert {name: facts[name] for name in told if name != "collection"} == {
        name: value for name, value in told.items() if name != "collection"}
    table = run("info", collection).out
    for line in ("HNSW8 ef_search=10 (up to date)", "0 added, 0 dead; 6 to find", "1.000 [0.9", "(target 0.9)", "1000 generic queries"):
        assert line in table
    assert run("search", collection, "a cat", "-k", "6").status == 0


def test_a_damaged_file_is_told_and_mended_by_the_next_run(run, collection, photo_folder):
    run("index", "-o", collection, "--index", "HNSW8")
    os.truncate(collection / "index.faiss", 1000)
    assert "HNSW8 ef_search=10 (out of date; `retrieval index` renews it)" in run("info", collection).out
    assert "The index is built in memory" in run("search", collection, "a cat").err
    assert run("index", photo_folder, "-o", collection).status == 0
    assert "HNSW8 ef_search=10 (up to date)" in run("info", collection).out
    assert run("search", collection, "a cat").err == ""


def test_what_was_added_since_training_is_told_apart_from_what_is_dead(run, collection, photo_folder):
    run("index", "-o", collection, "--index", "HNSW8")
    for name in ("a.jpg", "b.jpg"):
        shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / name)
    (photo_folder / "coffee.png").unlink()
    assert run("index", photo_folder, "-o", collection).status == 0
    (facts,) = run("info", collection, "--json").objects
    assert (facts["index_rows"], facts["index_rows_since_training"], facts["index_dead_rows"]) == (7, 2, 1)
    assert "2 added, 1 dead; 7 to find" in run("info", collection).out


def test_an_index_of_which_no_training_is_on_record_is_not_called_exact(run, collection):
    run("index", "-o", collection, "--index", "HNSW8")
    manifest = Manifest.load(collection)
    replace(manifest, index=replace(manifest.index, trained_rows=0, bytes_per_vector=0.0, tuning=None)).save(collection)
    (facts,) = run("info", collection, "--json").objects
    assert facts["index_rows_since_training"] is None
    shown = run("info", collection).out
    assert "exact search" not in shown and "since training" not in shown
    assert "not measured; `retrieval index --retune -o COLLECTION` does" in shown


def test_what_was_asked_for_stays_through_runs_and_rebuilds(run, collection, photo_folder, tiny_model):
    run("index", "-o", collection, "--index", "HNSW8", "--memory", "2GB")
    (photo_folder / "rocket.jpg").unlink()
    assert run("index", photo_folder, "-o", collection).status == 0
    assert run("index", photo_folder, "-o", collection, "--rebuild", "--model", tiny_model).status == 0
    record = Manifest.load(collection).index
    assert (record.spec.factory, record.rows, record.choice.memory) == ("HNSW8", 5, 2 * 10**9)
    run("index", photo_folder, "-o", collection, "--index", "auto")
    assert Manifest.load(collection).index.spec.factory == "Flat"


@pytest.mark.parametrize(("options", "status", "message"), [
    (["--index", "Bogus"], 1, '"Bogus" is not a FAISS factory string'),
    (["--index", "IVF4096,Flat"], 1, "needs at least 4096 vectors to train"),
    (["--index", "HNSW32", "--memory", "1kB"], 1, "takes about 0.0 GB"),
    (["--target-recall", "1.5"], 2, "1.5"),
    (["--target-recall", "0"], 2, "0"),
    (["--memory", "plenty"], 2, "'plenty' is not a size. Examples: 4GB, 500MB."),
])
def test_what_cannot_be_is_refused_before_any_work(run, photo_folder, tiny_model, tmp_path, options, status, message):
    path = tmp_path / "new.collection"
    done = run("index", photo_folder, "-o", path, "--model", tiny_model, *options)
    assert (done.status, done.out) == (status, "") and message in done.err
    assert not path.exists()


def test_an_earlier_choice_that_fits_no_more_refuses_no_run(run, collection, photo_folder):
    asked = ("--index", "IVF6,Flat")
    assert run("index", "-o", collection, *asked).status == 0
    for name in ("rocket.jpg", "coffee.png"):
        (photo_folder / name).unlink()
    fallen = run("index", photo_folder, "-o", collection)
    assert fallen.status == 0 and "is searched exactly, without an index." in fallen.err
    shutil.copyfile(photo_folder / "flower.jpg", photo_folder / "a.jpg")
    done = run("index", photo_folder, "-o", collection, "--json")
    assert done.status == 0 and done.objects[0]["images"] == 5, done.err
    assert run("index", "-o", collection, "--retune").status == 0
    for refused in (run("index", photo_folder, "-o", collection, *asked), run("index", "-o", collection, *asked)):
        assert refused.status == 1 and "needs at least 6 vectors to train" in refused.err
    shutil.copyfile(photo_folder / "flower.jpg", photo_folder / "b.jpg")
    assert run("index", photo_folder, "-o", collection).status == 0
    assert Manifest.load(collection).index.spec.factory == "IVF6,Flat"


def test_and_leaves_a_collection_as_it_was(run, collection):
    before = (collection / "manifest.json").read_bytes()
    assert run("index", "-o", collection, "--index", "IVF4096,Flat").status == 1
    assert (collection / "manifest.json").read_bytes() == before


def test_without_sources_there_has_to_be_something_to_change(run, collection):
    for arguments in ([], ["-o", collection], ["--retune"]):
        done = run("index", *arguments)
        assert done.status == 2 and "Missing argument 'SOURCE...'" in done.err


def test_retuning_exact_search_changes_nothing(run, collection):
    done = run("index", "-o", collection, "--retune", "--json")
    assert done.status == 0 and done.objects[0]["index"] == "Flat"
