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
from retrieval.train.pairs import Pairs, Photo


@pytest.fixture(scope="module")
def pairs(sample_photos):
    return Pairs([Photo(path.name, path.read_bytes) for path in sample_photos[:6]], [["a photo"]] * 6, 0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("towers")


@pytest.fixture(scope="module")
def outputs(cache):
    return TowerOutputs(without_projections(builtin.load_model()), cache, device="cpu")


def test_projected_outputs_are_the_models_vectors(outputs, pairs, builtin_encoder):
    """A linear projection of cached, unit-length outputs gives what the whole model gives."""
    from safetensors.numpy import load_file

    weights = load_file(builtin.TRAINED_FILE)
    for found, name, expected in (
        (outputs.of_photos(pairs, 0), "visual.head.proj.weight",
         builtin_encoder.encode_images([Image.open(io.BytesIO(one.read())).convert("RGB") for one in pairs.photos])),
        (outputs.of_texts(["a dog", "a red car in the rain"]), "text.proj.weight",
         builtin_encoder.encode_texts(["a dog", "a red car in the rain"])),
    ):
        projected = found.astype(np.float32) @ weights[name].T
        projected /= np.linalg.norm(projected, axis=1, keepdims=True)
        assert (projected * expected).sum(axis=1).min() > 0.9999  # float16 on disk


def test_finished_views_are_not_computed_again(outputs, pairs, cache):
    first = outputs.of_photos(pairs, 0)
    counted = []
    again = TowerOutputs(without_projections(builtin.load_model()), cache, device="cpu")
    np.testing.assert_array_equal(again.of_photos(pairs, 0, counted.append), first)
    assert counted == []
    assert not np.array_equal(again.of_photos(pairs, 2, counted.append), first)
    assert counted == [6]


def test_an_image_towers_outputs_serve_beside_another_text_tower(outputs, pairs, cache):
    first = outputs.of_photos(pairs, 0)
    texts = outputs.of_texts(["a dog"])
    towers = without_projections(builtin.load_model())
    with torch.no_grad():
        towers.model.text.transformer.embeddings.word_embeddings.weight.mul_(2)
    counted = []
    other = TowerOutputs(towers, cache, device="cpu")
    np.testing.assert_array_equal(other.of_photos(pairs, 0, counted.append), first)
    assert counted == []
    assert not np.array_equal(other.of_texts(["a dog"]), texts)


def test_unreadable_photo_is_named(outputs):
    with pytest.raises(TrainingError, match="broken.jpg: .*Take it out"):
        outputs.of_photos(Pairs([Photo("broken.jpg", lambda: b"no image")], [["a photo"]], 0), 0)


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


def test_no_view_is_mirrored_where_texts_do_not_allow_it():
    """Red on the left, blue on the right; crops are so large that they have both."""
    image = Image.new("RGB", (64, 64), "red")
    image.paste("blue", (32, 0, 64, 64))

    def turned_around(name, view, flip):
        red, _, blue = augment(image, view, name, flip).getpixel((0, 5))
        return blue > red

    names = [f"{number}.jpg" for number in range(8)]
    assert [any(turned_around(name, view, True) for name in names) for view in range(1, 8)] == [True] * 7
    assert not any(turned_around(name, view, False) for name in names for view in range(8))
    for view in (1, 2):  # a crop, still
        assert augment(image, view, "x", False).size != image.size


def test_outputs_follow_what_captions_say_of_sides(outputs, pairs):
    told = Pairs(pairs.photos, [["a photo"], ["a dog", "a dog on the left"], *pairs.captions[2:]], 0)
    original = outputs.of_photos(pairs, 0)
    counted = []
    np.testing.assert_array_equal(outputs.of_photos(told, 0, counted.append), original)
    assert counted == []  # the photo as it is serves any caption
    mirrored, kept = outputs.of_photos(pairs, 1), outputs.of_photos(told, 1)
    buffer = io.BytesIO()
    augment(pairs.photos[1].open(), 1, pairs.photos[1].name, text_allows_flip=False).save(buffer, "PNG")
    (expected,) = outputs.of_photos(Pairs([Photo("crop.png", buffer.getvalue)], [["a photo"]], 0), 0)
    others = [0, 2, 3, 4, 5]
    np.testing.assert_allclose(kept[others], mirrored[others], atol=2e-3)
    np.testing.assert_allclose(kept[1], expected, atol=2e-3)
    assert np.abs(kept[1] - mirrored[1]).max() > 0.01


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 3)])
def test_views_of_odd_shapes(size):
    for view in range(2, 12):
        assert min(augment(Image.new("RGB", size), view, "x").size) >= 1
