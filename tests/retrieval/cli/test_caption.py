"""`retrieval caption`: what is printed, and mistakes. What is found is for test_captioning."""

import pytest

from retrieval.catalog import Catalog
from retrieval.documents import Takeover


@pytest.fixture(autouse=True)
def quick(loaded_once):
    """The tiny model is loaded already."""


@pytest.fixture
def described(collection):
    with Catalog.open(collection, writable=True) as catalog:
        files, ids = catalog.known_files(), catalog.ids_by_path()
        catalog.commit((), (), [Takeover(file, files[file], id, ("a cat", "a\tpet"))
                                for file, id in ids.items() if id == "chelsea.png"])
    return collection


def test_captions_of_similar_images_with_a_note(run, described, photo_folder):
    done = run("caption", described, photo_folder / "chelsea.png", "coffee.png", "-k", "1")
    assert done.status == 0, done.err
    assert done.rows[0] == ["image", "rank", "score", "caption", "origin", "path"]
    own, other = done.rows[1:]
    cat = str(photo_folder / "chelsea.png")
    assert [own[index] for index in (0, 1, 3, 4, 5)] == [cat, "1", "a cat", "similar", cat]
    assert float(own[2]) > 0.999 and other[0] == "coffee.png" and other[3:] == own[3:]
    assert f"retrieval index SOURCE --with-captions -o {described}" in done.err


def test_json_of_captions_with_vectors(run, described, photo_folder):
    run("index", photo_folder, "-o", described, "--with-captions")
    done = run("caption", described, "coffee.png", "--json")
    assert done.err == "" and {one["caption"] for one in done.objects} == {"a cat", "a\tpet"}
    assert all(set(one) == {"image", "rank", "score", "caption", "origin", "id", "path"} for one in done.objects)
    assert [(one["rank"], one["origin"], one["id"]) for one in done.objects] == [
        (1, "stored", "chelsea.png"), (2, "stored", "chelsea.png")]


def test_mistakes(run, collection):
    for arguments, message in (
        (("gone.jpg",), "'gone.jpg' is no file here"),
        (("coffee.png",), "holds no captions to choose from"),
        (("coffee.png", "--write"), "writes no captions; CoCa models do"),
    ):
        done = run("caption", collection, *arguments)
        assert (done.status, done.out) == (1, "") and message in done.err and "Traceback" not in done.err
    assert run("caption", collection).status == 2
