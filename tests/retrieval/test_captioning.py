"""Captions for images: nearest by their own vectors, by similar images, or written."""

import numpy as np
import pytest

from retrieval.captioning import caption_images
from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.documents import Takeover
from retrieval.errors import QueryError
from retrieval.maintain import Options, index_sources
from retrieval.named_image import find_image

SAID = {"chelsea.png": ("a cat", "a pet"), "coffee.png": ("a cup of coffee", "a cat")}


@pytest.fixture
def made(photo_folder, tiny_model, tmp_path, loaded_once):
    path = tmp_path / "c.collection"
    index_sources([photo_folder], path, Options(model=f"local-dir:{tiny_model}"))
    return path


@pytest.fixture
def described(made):
    with Catalog.open(made, writable=True) as catalog:
        files, ids = catalog.known_files(), catalog.ids_by_path()
        catalog.commit((), (), [Takeover(file, files[file], id, SAID[id]) for file, id in ids.items() if id in SAID])
    return made


@pytest.fixture
def found(tiny_encoder):
    def found(path, name, *arguments, encoder=tiny_encoder, **options):
        with Collection.open(path, encoder=encoder) as collection:
            return caption_images(collection, [find_image(collection, name)], *arguments, **options)

    return found


def test_by_the_vectors_of_captions(described, photo_folder, tiny_model, tiny_encoder, found):
    index_sources([photo_folder], described, Options(captions=True))
    texts = ["a cat", "a pet", "a cup of coffee"]
    with Collection.open(described, encoder=tiny_encoder) as collection:
        scores = tiny_encoder.encode_texts(texts) @ find_image(collection, "rocket.jpg").vector(collection, tiny_encoder)
    captions = found(described, "rocket.jpg")
    order = np.argsort(-scores)
    # three texts, though two images have the first
    assert [(one.rank, one.caption, one.origin) for one in captions] == [
        (rank, texts[index], "stored") for rank, index in enumerate(order, 1)]
    np.testing.assert_allclose([one.score for one in captions], scores[order], atol=1e-3)
    assert {one.caption: one.id for one in captions}["a cup of coffee"] == "coffee.png"
    assert [one.caption for one in found(described, "rocket.jpg", 2)] == [texts[index] for index in order[:2]]


def test_by_similar_images_where_captions_have_no_vectors(described, tiny_encoder, found):
    captions = found(described, "coffee.png", 3)
    assert [(one.caption, one.origin, one.id) for one in captions] == [
        ("a cup of coffee", "similar", "coffee.png"), ("a cat", "similar", "coffee.png"),
        ("a cat", "similar", "chelsea.png")]
    assert captions[0].score == pytest.approx(1, abs=1e-3)
    with Collection.open(described, encoder=tiny_encoder) as collection:
        coffee, cat = (find_image(collection, name).vector(collection, tiny_encoder)
                       for name in ("coffee.png", "chelsea.png"))
    assert captions[2].score == pytest.approx(coffee @ cat, abs=1e-3)
    assert len(found(described, "coffee.png", 50)) == 4


class Writer:
    """The tiny encoder, which also writes."""

    writes_captions = True

    def __init__(self, encoder):
        self._encoder = encoder

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def write_captions(self, images):
        return [f"a picture of {image.width} by {image.height}" for image in images]


def test_written_ones_come_first(described, made, tiny_encoder, found):
    captions = found(described, "coffee.png", 1, encoder=Writer(tiny_encoder))
    assert [(one.rank, one.origin, one.id) for one in captions] == [(1, "written", None), (2, "similar", "coffee.png")]
    assert captions[0].caption == "a picture of 600 by 400"
    assert captions[0].to_json().keys() == {"image", "rank", "score", "caption", "origin"}
    (only,) = found(described, "coffee.png", write=True, encoder=Writer(tiny_encoder))
    assert only.origin == "written"
    (stored,) = found(described, "coffee.png", 1, write=False, encoder=Writer(tiny_encoder))
    assert stored.origin == "similar"


def test_nothing_to_say(made, tiny_encoder, found):
    with pytest.raises(QueryError, match="holds no captions to choose from. Index a source that has some"):
        found(made, "coffee.png")
    with pytest.raises(QueryError, match="writes no captions; CoCa models do"):
        found(made, "coffee.png", write=True)
    assert [one.origin for one in found(made, "coffee.png", encoder=Writer(tiny_encoder))] == ["written"]
