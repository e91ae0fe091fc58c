"""`retrieval index` and its companions on what is no folder, as typed."""

import json
import os
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet
import pytest

NAMES = ["astronaut.png", "coffee.png", "rocket.jpg"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def shards(photo_folder, here):
    """shards/0.tar to 2.tar with a photo each, 2.tar with its captions too"""
    (here / "shards").mkdir()
    (photo_folder / "rocket.txt").write_text("a rocket\nfire and smoke\n")
    for number, name in enumerate(NAMES):
        with tarfile.open(here / "shards" / f"{number}.tar", "w") as archive:
            for one in (name, *(["rocket.txt"] if number == 2 else [])):
                archive.add(photo_folder / one, one)
    return here / "shards"


@pytest.fixture
def index(run, tiny_model):
    """index(...) is the report of the command, which must succeed."""

    def index(*arguments, stdin=""):
        done = run("index", *arguments, "-m", tiny_model, "--json", stdin=stdin)
        assert done.status == 0, done.err
        return done.objects[0]

    return index


def test_shards_from_indexing_to_export(index, run, shards):
    report = index("shards/{0..2}.tar")
    assert (report["collection"], report["images"], report["skipped"]) == ("shards.collection", 3, [])
    hits = run("search", "shards.collection", "a rocket", "--json").objects
    assert {hit["path"] for hit in hits} == {f"{shards}/{number}.tar#{name}" for number, name in enumerate(NAMES)}
    assert {hit["id"] for hit in hits} == set(NAMES)
    assert run("search", "shards.collection", "a rocket", "-k", 1).rows[1][3].startswith(f"{shards}/")
    assert run("export", "shards.collection", "-o", "out").status == 0
    rows = pyarrow.parquet.read_table("out/metadata/metadata_0.parquet").to_pylist()
    assert {row["id"]: row["captions"] for row in rows}["rocket.jpg"] == ["a rocket", "fire and smoke"]
    assert len(np.load("out/img_emb/img_emb_0.npy")) == 3
    assert run("info", "shards.collection", "--json").objects[0]["images"] == 3
    assert run("forget", "shards.collection", "shards/0.tar", f"{shards}/1.tar#coffee.png", "--json").objects == [
        {"collection": "shards.collection", "dropped": 2}
    ]
    assert index("shards/{0..2}.tar")["encoded"] == 2


def test_one_archive_gives_its_name(index, shards):
    os.rename(shards / "2.tar", "photos.tar")
    assert index("photos.tar")["collection"] == "photos.collection"


def test_a_list_on_stdin(index, run, photo_folder, here):
    os.symlink(photo_folder, here / "photos")
    report = index("-", "-o", "some.collection", stdin="photos/rocket.jpg\nphotos/gone.jpg\nphotos/coffee.png\n")
    assert (report["images"], report["skipped"]) == (
        2, [{"path": f"{here}/photos/gone.jpg", "reason": "does not exist"}],
    )
    assert {hit["id"] for hit in run("search", "some.collection", "x", "--json").objects} == {
        "photos/rocket.jpg", "photos/coffee.png",
    }
    report = index("-", "-o", "some.collection", stdin=f"{photo_folder}/flower.jpg\0")
    assert (report["images"], report["encoded"], report["dropped"]) == (3, 1, 0)


def test_a_table_with_columns_of_other_names(index, photo_folder):
    Path("goods.csv").write_text("Bild,Titel\nrocket.jpg,a rocket\n")
    report = index("goods.csv", "--images", photo_folder, "--image-column", "Bild", "--caption-column", "Titel")
    assert (report["collection"], report["images"]) == ("goods.collection", 1)


def test_a_bucket(index, run, photo_folder):
    system = fsspec.filesystem("memory")
    system.pipe("/cli/rocket.jpg", (photo_folder / "rocket.jpg").read_bytes())
    try:
        assert index("memory://cli")["collection"] == "cli.collection"
        assert run("search", "cli.collection", "x").rows[1][3] == "memory://cli/rocket.jpg"
        assert run("forget", "cli.collection", "memory://cli").rows[1] == ["  dropped  1"]
    finally:
        system.rm("/cli", recursive=True)


@pytest.mark.parametrize(("arguments", "files", "status", "sentence"), [
    (["-"], {}, 2, "Say where to keep the index: -o COLLECTION. A list on stdin has no name."),
    (["-", "-o", "c"], {}, 1, "The list of images is empty. Give paths or URIs, one a line."),
    (["a.tar", "--image-column", "url"], {"a.tar": b""}, 2, "--image-column is about tables, and none of the sources is"),
    (["gone.tar"], {}, 1, "gone.tar does not exist."),
    (["{0..3}.tar"], {"0.tar": b""}, 1, "1.tar does not exist."),
    (["a.tar.gz"], {"a.tar.gz": b"\x1f\x8b"}, 1, "compressed (gzip), and images are read where they lie. Unpack it"),
    (["a.tar"], {"a.tar": b"no tar"}, 1, "a.tar: not an uncompressed tar file ("),
    (["a.zip"], {"a.zip": b"no zip"}, 1, "a.zip: damaged, cut short, or no zip file (File is not a zip file)"),
    (["a.txt"], {"a.txt": b"x"}, 1, "nor an archive or a table (.tar, .zip, .csv, .tsv"),
    (["a.csv"], {"a.csv": b"imgae,caption\n1.jpg,x\n"}, 1, "no image column; its header reads 'imgae', 'caption'. Rename"),
    (["a.csv", "--caption-column", "Titel"], {"a.csv": b"image,caption\n1.jpg,x\n"}, 1, "has no caption column"),
    (["a.csv"], {"a.csv": b"image,caption\n1.jpg,x\n2.jpg,x\n"}, 1, "The first of 2:"),
    (["a.csv"], {"a.csv": b""}, 1, "a.csv is empty. Give a table with content."),
    (["a.json"], {"a.json": b"{"}, 1, "is not valid JSON"),
    (["a.parquet"], {"a.parquet": b"PAR1"}, 1, "a.parquet cannot be read as Parquet: "),
    (["nope://bucket/x"], {}, 1, "nope://bucket/x cannot be read: Protocol not known: nope."),
    (["memory://no/such"], {}, 1, "memory://no/such does not exist. Check its spelling."),
    (["https://127.0.0.1:1/a.jpg"], {}, 1, "None of the 1 image files in https://127.0.0.1:1/a.jpg could be read"),
    (["https://127.0.0.1:1/a.tar"], {}, 1, "is read from a disk of this machine only. Fetch it"),
], ids=lambda value: str(value[0]) if isinstance(value, list) else "")
def test_mistakes_get_one_sentence(run, tiny_model, here, monkeypatch, arguments, files, status, sentence):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, content in files.items():
        (here / name).write_bytes(content)
    done = run("index", *arguments, "-m", tiny_model)
    assert (done.status, done.out) == (status, ""), done.err
    assert "Traceback" not in done.err
    [line] = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert sentence in line
    assert [path for path in here.iterdir() if path.suffix == ".collection"] == []


def test_parquet_without_pyarrow(run, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (here / "a.parquet").write_bytes(b"PAR1")
    done = run("index", "a.parquet")
    assert done.status == 1
    assert done.err == (
        "Error: Parquet needs pyarrow, which is not installed. Install it: pip install 'crossmodal-retrieval[parquet]'\n"
    )


@pytest.mark.parametrize("source", ["-", "s3://bucket/photos"])
def test_what_cannot_be_watched(run, source):
    done = run("watch", source, "-o", "c.collection")
    assert done.status == 1
    assert done.err == (
        f"Error: {source} cannot be watched: give folders or files of this machine, or use `retrieval index`.\n"
    )


def test_a_file_beside_an_image_that_is_no_caption(run, tiny_model, photo_folder):
    (photo_folder / "rocket.txt").write_bytes(b"caf\xe9")
    done = run("index", photo_folder, "-m", tiny_model, "-o", "c.collection")
    assert done.status == 0
    assert "1 files beside images in" in done.err and "rocket.txt" in done.err
    assert json.loads(run("info", "c.collection", "--json").out)["unreadable"] == 0
