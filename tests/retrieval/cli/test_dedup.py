import shutil

import pytest


@pytest.fixture
def doubled(run, photo_folder, tiny_model, tmp_path):
    """The photo folder with rocket.jpg a second time."""
    shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "again.jpg")
    path = tmp_path / "doubled.collection"
    assert run("index", photo_folder, "-o", path, "--model", tiny_model).status == 0
    return path


def test_groups_as_rows_and_as_json(run, doubled, photo_folder):
    done = run("dedup", doubled, "--exact")
    assert done.status == 0, done.err
    size = (photo_folder / "rocket.jpg").stat().st_size
    assert done.rows == [
        ["group", "kind", "score", "width", "height", "bytes", "path"],
        ["1", "exact", "1.0000", "640", "427", str(size), str(photo_folder / "again.jpg")],
        ["1", "exact", "1.0000", "640", "427", str(size), str(photo_folder / "rocket.jpg")],
    ]
    assert "1 groups; 1 images" in done.err
    (group,) = run("dedup", doubled, "--exact", "--json").objects
    assert (group["group"], group["kind"]) == (1, "exact")
    assert [one["path"] for one in group["images"]] == [str(photo_folder / name) for name in ("again.jpg", "rocket.jpg")]


def test_paths_of_all_but_the_best(run, doubled, photo_folder):
    assert run("dedup", doubled, "--exact", "--paths").out == f"{photo_folder / 'rocket.jpg'}\n"
    assert run("dedup", doubled, "--exact", "--paths", "-0").out == f"{photo_folder / 'rocket.jpg'}\0"
    assert (photo_folder / "rocket.jpg").exists()


def test_paths_are_those_of_files_of_their_own(run, collection_of_words, tmp_path):
    (tmp_path / "clip.gif").touch()
    (tmp_path / "more.zip").touch()
    places = [f"{tmp_path}/a.jpg", f"{tmp_path}/b.jpg", f"{tmp_path}/clip.gif#frame=1", f"{tmp_path}/more.zip#c.jpg",
              "https://example.org/d.jpg"]
    collection = collection_of_words(tmp_path / "c.collection", dict.fromkeys(places, "a cat"))
    done = run("dedup", collection, "--paths")
    assert (done.status, done.out) == (0, f"{tmp_path}/b.jpg\n")
    assert done.err == f"Left out 3 that are no files of their own, such as {tmp_path}/clip.gif#frame=1\n"


def test_sizes_that_an_import_does_not_know(run, collection_of_words, tmp_path):
    collection = collection_of_words(tmp_path / "c.collection", {"/photos/a.jpg": "a cat", "/photos/b.jpg": "a cat"})
    done = run("dedup", collection)
    assert done.status == 0, done.err
    assert done.rows[1:] == [["1", "near", "1.0000", "", "", "1", f"/photos/{name}"] for name in ("a.jpg", "b.jpg")]


@pytest.mark.parametrize(("options", "said"), [
    (["-0"], "-0 is about how --paths ends each path"),
    (["--paths", "--json"], "two ways to print"),
    (["--exact", "--threshold", "0.9"], "--threshold means nothing"),
    (["--threshold", "1.5"], "1.5 is not in the range"),
    (["--threshold", "0"], "0.0 is not in the range"),
])
def test_bad_usage(run, tmp_path, options, said):
    done = run("dedup", tmp_path, *options)
    assert done.status == 2 and said in " ".join(done.err.split())


def test_no_collection(run, tmp_path):
    done = run("dedup", tmp_path / "nothing.collection")
    assert done.status == 1 and "There is no collection" in done.err
