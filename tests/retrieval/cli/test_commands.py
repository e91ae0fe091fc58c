"""What each command prints when all is well."""

import json
import subprocess
import sys

import numpy as np

from retrieval.images import open_image


def test_index_reports_and_says_what_next(run, photo_folder, tiny_model, tmp_path):
    path = tmp_path / "my photos.collection"
    done = run("index", photo_folder, "-o", path, "--model", tiny_model)
    assert done.status == 0
    facts = dict(line.split("  ", 2)[1:] for line in done.out.splitlines()[1:-1])
    assert {name.strip(): value.strip() for name, value in facts.items()} == {
        "images": "6", "newly encoded": "6", "unchanged": "0", "moved": "0", "reused": "0", "dropped": "0",
        "unreadable": "0",
        "encoder": f"local-dir:{tiny_model}",
    }
    assert done.out.splitlines()[-1] == f"Search it: retrieval search '{path}' \"what you look for\""


def test_index_again_is_incremental(run, collection, photo_folder):
    (photo_folder / "coffee.png").unlink()
    (photo_folder / "bad.jpg").write_text("no image")
    done = run("index", photo_folder, "-o", collection, "--json")
    assert done.status == 0
    (report,) = done.objects
    assert {name: report[name] for name in ("images", "encoded", "unchanged", "dropped")} == {
        "images": 5, "encoded": 0, "unchanged": 5, "dropped": 1,
    }
    assert report["skipped"] == [
        {"path": str(photo_folder / "bad.jpg"), "reason": "not an image in a format that can be read"}
    ]


def test_index_names_the_collection_after_the_folder(run, photo_folder, tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("index", "photos", "-m", tiny_model).out.startswith("photos.collection\n")
    monkeypatch.chdir(photo_folder)
    assert run("index", ".", "-m", tiny_model).out.startswith("photos.collection\n")
    assert (photo_folder / "photos.collection" / "manifest.json").is_file()


def test_search_by_text_and_image_ranks_like_the_encoder(run, collection, photo_folder, tiny_encoder):
    cat = photo_folder / "chelsea.png"
    done = run("search", collection, "a cat", cat, "-k", "3", "--json")
    assert done.status == 0
    files = {path.relative_to(photo_folder).as_posix(): path
             for path in photo_folder.rglob("*") if path.is_file()}
    images = tiny_encoder.encode_images([open_image(path)[0] for path in files.values()])
    for query, vector in (("a cat", tiny_encoder.encode_texts(["a cat"])[0]),
                          (str(cat), images[list(files).index("chelsea.png")])):
        hits = [hit for hit in done.objects if hit["query"] == query]
        scores = images @ vector
        best = np.argsort(-scores)[:3]
        assert [hit["id"] for hit in hits] == [list(files)[index] for index in best]
        assert [hit["path"] for hit in hits] == [str(list(files.values())[index]) for index in best]
        assert [hit["rank"] for hit in hits] == [1, 2, 3]
        np.testing.assert_allclose([hit["score"] for hit in hits], scores[best], atol=1e-3)


def test_search_prints_tab_separated_rows_when_piped(run, collection):
    rows = run("search", collection, "a cat", "-k", "2").rows
    assert rows[0] == ["query", "rank", "score", "path"]
    assert [(row[0], row[1]) for row in rows[1:]] == [("a cat", "1"), ("a cat", "2")]


def test_search_without_k_returns_all_of_a_small_collection(run, collection):
    assert [hit["rank"] for hit in run("search", collection, "x", "--json").objects] == [1, 2, 3, 4, 5, 6]


def test_search_reads_queries_from_stdin(run, collection):
    done = run("search", collection, "-", "-k", "1", "--json", stdin="a cat\n\n  \na dog, running\n")
    assert [hit["query"] for hit in done.objects] == ["a cat", "a dog, running"]


def test_info(run, collection, tiny_encoder):
    (facts,) = run("info", collection, "--json").objects
    assert facts["images"] == 6 and facts["dimensions"] == 32 and facts["index"] == "Flat"
    assert facts["fingerprint"] == tiny_encoder.fingerprint
    assert facts["index_current"] is True and facts["failed"] == []
    assert "Flat (up to date)" in run("info", collection).out


def test_models_lists_and_filters(run):
    rows = run("models").rows
    assert rows[0] == ["model", "default", "here", "note"]
    assert [row[0] for row in rows[1:3]] == ["builtin", "ViT-B-32-SigLIP2-256/webli"]
    assert all("siglip2" in row[0].lower() for row in run("models", "siglip2").rows[1:])
    nothing = run("models", "no-such-model")
    assert nothing.out == "" and "contains 'no-such-model'" in nothing.err


def test_environment_sets_options(run, photo_folder, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVAL_MODEL", str(tiny_model))
    done = run("index", photo_folder, "-o", tmp_path / "c.collection", "--json")
    assert done.objects[0]["encoder"] == f"local-dir:{tiny_model}"


def test_tabs_and_line_breaks_in_names_keep_rows_whole(run, photo_folder, tiny_model, tmp_path):
    (photo_folder / "coffee.png").rename(photo_folder / "two\twords\nand a line.png")
    run("index", photo_folder, "-o", tmp_path / "c.collection", "-m", tiny_model)
    rows = run("search", tmp_path / "c.collection", "coffee").rows
    assert len(rows) == 7 and {len(row) for row in rows} == {4}
    assert str(photo_folder / r"two\twords\nand a line.png") in {row[3] for row in rows}


def test_piped_output_survives_a_closed_reader(collection):
    """`retrieval search ... | head -1` must not end in a traceback."""
    command = f"{sys.executable} -m retrieval search {collection} a b c d e | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout == "query\trank\tscore\tpath\n"
    assert "Traceback" not in done.stderr


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "retrieval", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("retrieval, version ") and done.returncode == 0


def test_json_output_is_unicode(run, photo_folder, tiny_model, tmp_path):
    (photo_folder / "coffee.png").rename(photo_folder / "咖啡 ☕.png")
    run("index", photo_folder, "-o", tmp_path / "c.collection", "-m", tiny_model)
    done = run("search", tmp_path / "c.collection", "咖啡", "--json")
    assert "咖啡 ☕.png" in {hit["id"] for hit in done.objects}
    assert json.loads(done.out.splitlines()[0])["query"] == "咖啡"


def test_interrupted_index_says_how_to_go_on(run, photo_folder, tiny_model, tmp_path, monkeypatch):
    from retrieval import ingest

    path = tmp_path / "c.collection"
    commit = ingest.Catalog.commit

    def interrupted_after_the_first_batch(catalog, *batch):
        if catalog.vector_rows:
            raise KeyboardInterrupt
        commit(catalog, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(ingest.Catalog, "commit", interrupted_after_the_first_batch)
        done = run("index", photo_folder, "-o", path, "-m", tiny_model, "--batch-size", "2")
    assert done.status == 130 and "Traceback" not in done.err
    assert "Run the same command again to go on from what was committed." in done.err
    (report,) = run("index", photo_folder, "-o", path, "--json").objects
    assert (report["images"], report["encoded"], report["unchanged"]) == (6, 4, 2)


def test_an_interrupt_ends_any_command_with_130(run, collection, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("retrieval.collection.Collection.open", interrupted)
    for command in (["search", collection, "a cat"], ["info", collection]):
        done = run(*command)
        assert (done.status, done.out, done.err) == (130, "", "\nInterrupted.\n")
