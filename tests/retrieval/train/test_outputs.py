"""Tower outputs: right, kept, and found again."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders import builtin
from retrieval.errors import TrainingError
from retrieval.train.outputs import TowerOutputs, augment, without_projections
from retrieval.train.pairs import Photo


@pytest.fixture(scope="module")
def photos(sample_photos):
    return [Photo(path.name, path.read_bytes) for path in sample_photos[:6]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("towers")


@pytest.fixture(scope="module")
def outputs(cache):
    return TowerOutputs(without_projections(builtin.load_model()), cache, device="cpu")


def test_projected_outputs_are_the_models_vectors(outputs, photos, builtin_encoder):
    """A linear projection of cached, unit-length outputs gives what the whole model gives."""
    from safetensors.numpy import load_file

    weights = load_file(builtin.TRAINED_FILE)
    for found, name, expected in (
        (outputs.of_photos(photos, 0), "visual.head.proj.weight",
         builtin_encoder.encode_images([Image.open(io.BytesIO(one.read())).convert("RGB") for one in photos])),
        (outputs.of_texts(["a dog", "a red car in the rain"]), "text.proj.weight",
         builtin_encoder.encode_texts(["a dog", "a red car in the rain"])),
    ):
        projected = found.astype(np.float32) @ weights[name].T
        projected /= np.linalg.norm(projected, axis=1, keepdims=True)
        assert (projected * expected).sum(axis=1).min() > 0.9999  # float16 on disk


def test_finished_views_are_not_computed_again(outputs, photos, cache):
    first = outputs.of_photos(photos, 0)
    counted = []
    again = TowerOutputs(without_projections(builtin.load_model()), cache, device="cpu")
    np.testing.assert_array_equal(again.of_photos(photos, 0, counted.append), first)
    assert counted == []
    assert not np.array_equal(again.of_photos(photos, 2, counted.append), first)
    assert counted == [6]


def test_an_image_towers_outputs_serve_beside_another_text_tower(outputs, photos, cache):
    first = outputs.of_photos(photos, 0)
    texts = outputs.of_texts(["a dog"])
    towers = without_projections(builtin.load_model())
    with torch.no_grad():
        towers.model.text.transformer.embeddings.word_embeddings.weight.mul_(2)
    counted = []
    other = TowerOutputs(towers, cache, device="cpu")
    np.testing.assert_array_equal(other.of_photos(photos, 0, counted.append), first)
    assert counted == []
    assert not np.array_equal(other.of_texts(["a dog"]), texts)


def test_unreadable_photo_is_named(outputs):
    with pytest.raises(TrainingError, match="broken.jpg: .*Take it out"):
        outputs.of_photos([Photo("broken.jpg", lambda: b"no image")], 0)


def test_views(sample_photos):
    image = Image.open(sample_photos[0]).convert("RGB")
    assert augment(image, 0, "x").tobytes() == image.tobytes()
    mirrored = augment(image, 1, "x")
    assert mirrored.getpixel((0, 5)) == image.getpixel((image.width - 1, 5))
    crop = augment(image, 2, "x")
    assert crop.width < image.width or crop.height < image.height
    assert augment(image, 3, "x").tobytes() != crop.tobytes()
    random.seed(99)  # whatever else draws random numbers
    assert augment(image, 2, "x").tobytes() == crop.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_views_of_odd_shapes(size):
    for view in range(2, 12):
        assert min(augment(Image.new("RGB", size), view, "x").size) >= 1
