"""Which image a name means."""

import numpy as np
import pytest
from PIL import Image

from retrieval.collection import Collection
from retrieval.errors import QueryError
from retrieval.images import open_image
from retrieval.maintain import Options, index_sources
from retrieval.named_image import find_image


@pytest.fixture
def collection(photo_folder, tiny_model, tmp_path, loaded_once, tiny_encoder):
    (photo_folder / "bad.jpg").write_text("no image")
    index_sources([photo_folder], tmp_path / "c.collection", Options(model=f"local-dir:{tiny_model}"))
    with Collection.open(tmp_path / "c.collection", encoder=tiny_encoder) as opened:
        yield opened


def test_a_stored_image_by_id_or_path(collection, photo_folder, tiny_encoder):
    path = photo_folder / "2019" / "beach" / "china.jpg"
    by_id = find_image(collection, "2019/beach/china.jpg")
    assert (by_id.address, by_id.row) == (str(path), dict(collection.catalog.indexed())["2019/beach/china.jpg"])
    picture, _ = open_image(path)
    assert by_id.open().size == picture.size
    own = tiny_encoder.encode_images([picture])[0]
    assert by_id.vector(collection, tiny_encoder) @ own > 0.999
    path.unlink()  # by its path there is no file, but its vector
    gone = find_image(collection, str(path))
    np.testing.assert_array_equal(gone.vector(collection, None), by_id.vector(collection, None))
    with pytest.raises(QueryError, match="The image .*china.jpg: cannot be read: No such file"):
        gone.open()


def test_an_id_as_search_takes_it(collection):
    assert find_image(collection, "id:rocket.jpg").row == find_image(collection, "rocket.jpg").row is not None


def test_a_file_comes_before_an_id(collection, photo_folder, tmp_path, monkeypatch, tiny_encoder):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 10), "green").save("coffee.png")
    found = find_image(collection, "coffee.png")
    assert (found.address, found.row) == (str(tmp_path / "coffee.png"), None)
    own = tiny_encoder.encode_images([Image.new("RGB", (20, 10), "green")])[0]
    np.testing.assert_allclose(found.vector(collection, tiny_encoder), own, atol=1e-6)


def test_names_of_nothing(collection):
    with pytest.raises(QueryError, match="'nothing.jpg' is no file here, and no image of .*; its ids look like "):
        find_image(collection, "nothing.jpg")
    with pytest.raises(QueryError, match="is no file here"):
        find_image(collection, "bad\udcff.jpg")
    with pytest.raises(QueryError, match="'' is no file here"):
        find_image(collection, "")
    with pytest.raises(QueryError, match="bad.jpg could not be read when it was indexed: not an image"):
        find_image(collection, "bad.jpg")
