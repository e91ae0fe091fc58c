"""`retrieval export` and `retrieval import`, by themselves and with the other commands."""

import os
import sqlite3
import sys

import numpy as np
import pytest


@pytest.fixture
def exported(run, collection, tmp_path):
    folder = tmp_path / "embeddings"
    assert run("export", collection, "-o", folder).status == 0
    return folder


@pytest.fixture
def imported(run, exported, tiny_model, tmp_path):
    path = tmp_path / "my imported.collection"
    assert run("import", exported, "-o", path, "-m", tiny_model).status == 0
    return path


def test_export_reports(run, collection, tmp_path, tiny_model):
    done = run("export", collection, "-o", tmp_path / "a")
    assert done.out.splitlines()[0] == str(tmp_path / "a")
    assert [line.split()[1] for line in done.out.splitlines()[1:]] == ["6", "1", f"local-dir:{tiny_model}"]
    assert done.err == "No text_emb: 6 of 6 images have no caption with a vector.\n"
    assert run("export", collection, "-o", tmp_path / "b", "--json").objects == [{
        "folder": str(tmp_path / "b"), "format": "clip-retrieval", "encoder": f"local-dir:{tiny_model}",
        "images": 6, "files": 1,
    }]


def test_import_reports(run, exported, tiny_model, tmp_path):
    done = run("import", exported, "-o", tmp_path / "a b.collection", "-m", tiny_model)
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[-1] == f"Search it: retrieval search '{tmp_path}/a b.collection' \"what you look for\""
    facts = {line[2:18].strip(): line[20:] for line in lines[1:-1]}
    assert facts == {
        "images": "6", "on this machine": "6", "renamed": "0", "without a vector": "0",
        "encoder": f"local-dir:{tiny_model}", "compared": "6 images, cosine 1.000",
    }
    (report,) = run("import", exported, "-o", tmp_path / "c", "-m", tiny_model, "--json").objects
    assert report.pop("cosine") == pytest.approx(1, abs=1e-3)
    assert report == {
        "collection": str(tmp_path / "c"), "source": "clip-retrieval's layout",
        "encoder": f"local-dir:{tiny_model}", "images": 6, "at_hand": 6, "renamed": 0, "compared": 6,
        "skipped": [],
    }


def metrics_in(value):
    """Every "metrics" in nested JSON."""
    for name, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if name == "metrics":
            yield one
        else:
            yield from metrics_in(one)


def test_an_import_works_with_every_command(run, collection, imported, photo_folder, tmp_path):
    searches = [run("search", path, "a cat", photo_folder / "coffee.png", "--json").objects
                for path in (collection, imported)]
    assert searches[0] == searches[1] and len(searches[0]) == 12
    (facts,) = run("info", imported, "--json").objects
    assert (facts["images"], facts["unreadable"], facts["index_current"]) == (6, 0, True)
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\ncoffee.png,a cup of coffee\nchelsea.png,a cat\n")
    results = [run("benchmark", path, "--captions", captions, "--json").objects for path in (collection, imported)]
    before, after = (list(metrics_in(result)) for result in results)
    assert before == after and before
    (report,) = run("index", photo_folder, "-o", imported, "--json").objects
    assert (report["unchanged"], report["encoded"], report["dropped"]) == (6, 0, 0)


def test_relative_paths_begin_at_images(run, exported, photo_folder, tiny_model, tmp_path):
    import pyarrow
    import pyarrow.parquet

    file = exported / "metadata" / "metadata_0.parquet"
    paths = pyarrow.parquet.read_table(file)["image_path"].to_pylist()
    relative = [os.path.relpath(path, photo_folder) for path in paths]
    pyarrow.parquet.write_table(pyarrow.table({"image_path": relative}), file)
    (report,) = run("import", exported, "-o", tmp_path / "a", "-m", tiny_model, "--json").objects
    assert report["at_hand"] == 0
    (report,) = run("import", exported, "-o", tmp_path / "b", "-m", tiny_model, "--json",
                    "--images", photo_folder).objects
    assert (report["at_hand"], report["compared"]) == (6, 6)
    hits = run("search", tmp_path / "b", "a cat", "--json").objects
    assert {(hit["id"], hit["path"]) for hit in hits} == set(zip(relative, paths))


def test_other_vectors_are_refused_unless_forced(run, exported, tiny_model, tmp_path):
    file = exported / "img_emb" / "img_emb_0.npy"
    np.save(file, np.load(file)[::-1] * -1)
    path = tmp_path / "forced.collection"
    done = run("import", exported, "-o", path, "-m", tiny_model)
    assert (done.status, done.out) == (1, "") and not path.exists()
    assert done.err.startswith(f"Error: The vectors in {exported} do not look like local-dir:{tiny_model}'s: cosine ")
    done = run("import", exported, "-o", path, "-m", tiny_model, "--force")
    assert done.status == 0 and done.err.startswith("Warning: The vectors in ")


def test_skipped_vectors_are_named(run, exported, tiny_model, tmp_path):
    file = exported / "img_emb" / "img_emb_0.npy"
    vectors = np.load(file)
    vectors[0] = 0
    np.save(file, vectors)
    done = run("import", exported, "-o", tmp_path / "a", "-m", tiny_model)
    assert done.err == "Skipped 1 unreadable:\n  2019/beach/china.jpg: its vector is all zeros\n"


def test_rclip_names_its_model(run, tmp_path):
    """Its weights are not here; the message tells that the right ones were wanted."""
    path = tmp_path / "db.sqlite3"
    with sqlite3.connect(path) as database:
        database.executescript("""
            CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN, filepath TEXT NOT NULL UNIQUE,
                                 modified_at DATETIME NOT NULL, size INTEGER NOT NULL, vector BLOB NOT NULL);
            CREATE TABLE db_version (version INTEGER);
            INSERT INTO db_version VALUES (4);
        """)
        database.execute("INSERT INTO images VALUES (1, NULL, '/x.jpg', 1.5, 3, ?)", (bytes(2048),))
    database.close()
    done = run("import", path, "-o", tmp_path / "a")
    assert done.status == 1 and not (tmp_path / "a").exists()
    assert f"{path} was made with ViT-B-32-256/datacomp_s34b_b86k, by its version." in done.err


@pytest.mark.parametrize("arguments", [["import", "x", "-m", "builtin"], ["export", "x"],
                                       ["export", "x", "-o", "y", "--format", "npz"]])
def test_wrong_usage(run, arguments):
    assert run(*arguments).status == 2


def test_export_without_pyarrow(run, collection, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = run("export", collection, "-o", tmp_path / "a")
    assert done.status == 1 and "pip install 'crossmodal-retrieval[parquet]'" in done.err
    assert not (tmp_path / "a").exists()
