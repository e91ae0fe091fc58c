"""Mistakes people make: one clear sentence, status 1 or 2, nothing half-written."""

import json
import shutil
import sqlite3

import pytest


def refused(done, *fragments, status=1):
    """One sentence on stderr, nothing on stdout, no traceback."""
    assert done.status == status, (done.out, done.err)
    assert done.out == ""
    assert "Traceback" not in done.err
    lines = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.err
    for fragment in fragments:
        assert fragment in lines[0], lines[0]


@pytest.fixture
def target(tmp_path):
    return tmp_path / "new.collection"


def test_missing_folder(run, target, tiny_model):
    refused(run("index", "no/such/folder", "-o", target, "-m", tiny_model),
            "no/such/folder does not exist")
    assert not target.exists()


def test_folder_without_images(run, target, tiny_model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("hello")
    refused(run("index", tmp_path / "empty", "-o", target, "-m", tiny_model), "No images in")
    assert not target.exists()


def test_only_a_text_file_named_jpg(run, target, tiny_model, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "text.jpg").write_text("hello")
    refused(run("index", tmp_path / "folder", "-o", target, "-m", tiny_model),
            "None of the 1 image files", "text.jpg: not an image")
    assert not target.exists()


def test_text_file_and_truncated_jpeg_among_good_ones(run, target, tiny_model, photo_folder):
    (photo_folder / "text.jpg").write_text("hello")
    whole = (photo_folder / "rocket.jpg").read_bytes()
    (photo_folder / "half.jpg").write_bytes(whole[: len(whole) // 2])
    done = run("index", photo_folder, "-o", target, "-m", tiny_model)
    assert done.status == 0
    assert "Skipped 2 unreadable:" in done.err
    assert f"{photo_folder / 'half.jpg'}: damaged or truncated" in done.err
    assert f"{photo_folder / 'text.jpg'}: not an image" in done.err
    (facts,) = run("info", target, "--json").objects
    assert facts["images"] == 6 and facts["unreadable"] == 2


def test_unknown_model(run, target, photo_folder):
    refused(run("index", photo_folder, "-o", target, "-m", "ViT-B23"),
            "no model named 'ViT-B23'", "Nearest: ViT-B-32", "retrieval models")
    assert not target.exists()


def test_model_without_weights_while_offline(run, target, photo_folder):
    refused(run("index", photo_folder, "-o", target, "-m", "ViT-B-32"),
            "weights of ViT-B-32/laion2b_s34b_b79k are not on this machine", "HF_HUB_OFFLINE is set",
            "--model builtin")
    assert not target.exists()


@pytest.mark.parametrize("query", ["", "   ", "\t\n"])
def test_empty_query(run, collection, query):
    refused(run("search", collection, query), "The query is empty")


def test_no_queries_on_stdin(run, collection):
    refused(run("search", collection, "-", stdin="\n\n"), "no queries on stdin")


def test_query_image_that_is_not_there(run, collection):
    refused(run("search", collection, "./nowhere.jpg"), "no image file ./nowhere.jpg")


def test_query_image_that_is_damaged(run, collection, tmp_path):
    (tmp_path / "bad.png").write_text("hello")
    refused(run("search", collection, tmp_path / "bad.png"), "bad.png: not an image")


@pytest.mark.parametrize("k", ["0", "-3", "many"])
def test_k_that_is_no_count(run, collection, k):
    refused(run("search", collection, "a cat", "-k", k), "Invalid value for '-k'", status=2)


def test_k_above_the_collection(run, collection):
    refused(run("search", collection, "a cat", "-k", "7"), "k is 7", "holds 6 images; ask for at most 6")


def test_no_arguments(run):
    refused(run("search"), "Missing argument 'COLLECTION'", status=2)
    refused(run("index"), "Missing argument 'SOURCE...'", status=2)
    refused(run("serch"), "No such command 'serch'", status=2)


@pytest.mark.parametrize("command", ["search", "benchmark", "info"])
def test_collection_that_is_not_there(run, command, tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,a\n")
    more = {"search": ["a"], "benchmark": ["--captions", tmp_path / "captions.csv"], "info": []}[command]
    refused(run(command, tmp_path / "no.collection", *more), "no collection at", "retrieval index SOURCE")


def test_folder_that_is_not_a_collection(run, photo_folder, tiny_model):
    before = sorted(photo_folder.rglob("*"))
    refused(run("search", photo_folder, "a cat"), "not a collection", "retrieval index")
    refused(run("index", photo_folder, "-o", photo_folder, "-m", tiny_model), "not a collection")
    refused(run("index", photo_folder, "-o", photo_folder, "-m", tiny_model, "--rebuild"), "not a collection")
    assert sorted(photo_folder.rglob("*")) == before


CAPTIONS = {
    "unknown images": ("image,caption\nx.jpg,a\ny.jpg,b\n", "x.jpg"),
    "no caption column": ("image,words\nchelsea.png,a cat\n", "caption"),
    "no image column": ("caption,words\na cat,b\n", "image"),
    "empty": ("", "empty"),
    "no rows": ("image,caption\n", "no captions"),
    "broken JSON": ('{"images": [', "JSON"),
    "unknown JSON": ('{"pictures": []}', "pictures"),
}


@pytest.mark.parametrize("kind", CAPTIONS)
def test_captions_files(run, collection, tmp_path, kind):
    content, fragment = CAPTIONS[kind]
    path = tmp_path / ("captions.json" if "JSON" in kind else "captions.csv")
    path.write_text(content)
    refused(run("benchmark", collection, "--captions", path), fragment)


def test_captions_file_that_is_not_there(run, collection, tmp_path):
    refused(run("benchmark", collection, "--captions", tmp_path / "no.csv"), "no.csv")


def test_split_that_is_not_there(run, collection, tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_text("split\timage\tcaption\ntest\tchelsea.png\ta cat\n")
    refused(run("benchmark", collection, "--captions", path, "--split", "tset"), "tset", "test")


def test_collection_made_by_another_encoder(run, collection, photo_folder, other_model, tiny_model):
    refused(run("index", photo_folder, "-o", collection, "-m", other_model),
            f"made with local-dir:{tiny_model}", f"local-dir:{other_model}", "--rebuild")
    assert len(run("search", collection, "a cat", "--json").objects) == 6


def test_encoder_that_changed_since(run, photo_folder, tiny_model, other_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    target = tmp_path / "c.collection"
    assert run("index", photo_folder, "-o", target, "-m", model).status == 0
    weights = "open_clip_model.safetensors"
    shutil.copyfile(other_model / weights, model / weights)
    for command in (["search", target, "a cat"], ["index", photo_folder, "-o", target, "-m", model]):
        if command[0] == "index":
            shutil.copyfile(photo_folder / "coffee.png", photo_folder / "new.png")
        refused(run(*command), "fingerprint", "cannot be compared")


def test_model_folder_that_went_away(run, photo_folder, tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    target = tmp_path / "c.collection"
    run("index", photo_folder, "-o", target, "-m", model)
    shutil.rmtree(model)
    refused(run("search", target, "a cat"), "was made with local-dir:", "no model folder")


@pytest.mark.parametrize("place", ["/proc/photos.collection", "/dev/null/photos.collection"])
def test_output_that_cannot_be_written(run, photo_folder, tiny_model, place):
    refused(run("index", photo_folder, "-o", place, "-m", tiny_model), "cannot be written")


def test_output_that_is_a_file(run, photo_folder, tiny_model, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run("index", photo_folder, "-o", tmp_path / "file", "-m", tiny_model)
    refused(done, str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_newer_collection(run, collection, photo_folder):
    manifest = json.loads((collection / "manifest.json").read_text())
    manifest["schema_version"] += 1
    (collection / "manifest.json").write_text(json.dumps(manifest))
    refused(run("search", collection, "a cat"), "newer version", "upgrade")
    refused(run("index", photo_folder, "-o", collection), "newer version", "upgrade")


def test_damaged_catalogue(run, collection):
    (collection / "catalog.sqlite").write_bytes(b"SQLite format 3\0" + b"junk" * 500)
    refused(run("search", collection, "a cat"), "catalog.sqlite", "--rebuild")


def test_catalogue_in_use_by_another_program(run, collection, photo_folder, monkeypatch):
    from retrieval import catalog_file

    other = sqlite3.connect(collection / "catalog.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(catalog_file, "LOCK_SECONDS", 0.1)
    refused(run("search", collection, "a cat"), "catalog.sqlite", "locked")
    other.close()


def test_device_that_is_not_there(run, collection):
    refused(run("search", collection, "a cat", "--device", "cuda:7"), "cuda:7", "--device cpu")


def test_training_without_enough_pairs(run, photo_folder, tmp_path):
    (tmp_path / "captions.csv").write_text("image,caption\nchelsea.png,a cat\n")
    refused(run("train", photo_folder, "--captions", tmp_path / "captions.csv", "-o", tmp_path / "m"),
            "too few to train on")
    assert not (tmp_path / "m").exists()
