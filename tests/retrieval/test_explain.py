"""Explanations, on pictures put together so that the answer is known."""

from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import QueryError
from retrieval.explain import drawn, explain, half_blocks, leave_one_out
from retrieval.images import open_image

CALLED = {"chelsea.png": "a cat", "rocket.jpg": "a rocket", "coffee.png": "a cup of coffee",
          "astronaut.png": "an astronaut", "flower.jpg": "a flower", "motorcycle_left.png": "a motorcycle"}
SIDE = 224


class Colours:
    """An image is its mean colour, a text the colours that it names."""

    name, dim, fingerprint = "colours", 3, "colours-1"

    def encode_images(self, images):
        return self._unit([np.asarray(image).reshape(-1, 3).mean(0) for image in images])

    def encode_texts(self, texts):
        return self._unit([[text.count(name) for name in ("red", "green", "blue")] for text in texts])

    def _unit(self, rows):
        rows = np.array(rows, np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def pictures(sample_photos):
    return {CALLED[path.name]: open_image(path)[0].resize((SIDE, SIDE))
            for path in sample_photos if path.name in CALLED}


def put_together(pictures, columns):
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place % columns * SIDE, place // columns * SIDE))
    return whole


def shares(heat, rows, columns):
    """Of the heat's mass, by part: row after row."""
    parts = [part.sum() for band in np.array_split(heat, rows) for part in np.array_split(band, columns, axis=1)]
    return np.array(parts) / sum(parts)


def right_halves(encoder, pictures, method):
    """(times that most of the heat lies on the half that the text is of, how often it was asked)."""
    right = []
    for one, other in combinations(pictures, 2):
        both = put_together([pictures[one], pictures[other]], 2)
        for place, text in enumerate((one, other)):
            right.append(shares(explain(encoder, both, text, method=method).heat, 1, 2).argmax() == place)
    return sum(right), len(right)


@pytest.mark.parametrize("upright", [False, True])
def test_a_cat_beside_a_rocket(builtin_encoder, pictures, upright):
    both = put_together([pictures["a cat"], pictures["a rocket"]], 1 if upright else 2)
    heats = [explain(builtin_encoder, both, text).heat for text in ("a cat", "a rocket")]
    assert all(heat.shape == (both.height, both.width) and heat.dtype == np.float32 for heat in heats)
    assert [(heat.min(), heat.max()) for heat in heats] == [(0, 1), (0, 1)]
    parts = (2, 1) if upright else (1, 2)
    found = [shares(heat, *parts)[place] for place, heat in enumerate(heats)]
    assert min(found) > 0.6, found


def test_the_right_half_of_two_photos(builtin_encoder, pictures):
    right, asked = right_halves(builtin_encoder, pictures, "gradient")
    assert asked == 30 and right >= 22


def test_the_right_quarter_of_four_photos(builtin_encoder, pictures):
    """By chance it would be one of four."""
    right = asked = 0
    for names in list(combinations(pictures, 4))[::2]:
        whole = put_together([pictures[name] for name in names], 2)
        for place, text in enumerate(names):
            right += shares(explain(builtin_encoder, whole, text).heat, 2, 2).argmax() == place
            asked += 1
    assert asked == 32 and right >= 16


def test_occlusion_with_the_built_in_encoder(builtin_encoder, pictures):
    both = put_together([pictures["a cat"], pictures["a rocket"]], 2)
    explained = explain(builtin_encoder, both, "a cat", method="occlusion")
    assert explained.method == "occlusion" and shares(explained.heat, 1, 2)[0] > 0.6


def test_occlusion_finds_the_only_place_with_the_colour():
    image = Image.new("RGB", (320, 160), "blue")
    image.paste((255, 0, 0), (240, 0, 320, 80))
    explained = explain(Colours(), image, "red")
    assert explained.method == "occlusion"  # as the encoder has no gradients
    assert explained.heat.shape == (160, 320)
    row, column = np.unravel_index(explained.heat.argmax(), explained.heat.shape)
    assert row < 80 and column >= 240
    assert explained.heat[:40, 280:].min() > 0.7 > 0.2 > explained.heat[:, :180].max()
    assert explained.score == pytest.approx(float(Colours().encode_images([image])[0] @ [1, 0, 0]), abs=0.01)


def test_what_speaks_against_is_cold():
    explained = explain(Colours(), Image.new("RGB", (64, 64), "blue"), "red")
    assert not explained.heat.any()  # no region speaks for it more than another
    assert explained.to_json()["hottest"] is None


def test_what_the_tower_does_not_see_is_cold(tiny_encoder, sample_photos):
    picture = open_image(sample_photos[0])[0].resize((300, 100))
    explained = explain(tiny_encoder, picture, "a dog")
    assert explained.method == "gradient" and explained.heat.shape == (100, 300)
    assert not explained.heat[:, :100].any() and not explained.heat[:, 200:].any()  # the middle is cut out
    assert explained.heat[:, 100:200].max() == 1
    own = tiny_encoder.encode_images([picture])[0] @ tiny_encoder.encode_texts(["a dog"])[0]
    assert explained.score == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 5)])
def test_tiny_images_and_strips(tiny_encoder, size):
    picture = Image.radial_gradient("L").resize(size).convert("RGB")
    for method in ("gradient", "occlusion"):
        heat = explain(tiny_encoder, picture, "a dog", method=method).heat
        assert heat.shape == size[::-1] and np.isfinite(heat).all() and 0 <= heat.min() <= heat.max() <= 1


def test_words_are_left_out_one_by_one():
    red = np.array([1.0, 0, 0], np.float32)
    words = leave_one_out(Colours(), red, "one red  and one blue")
    assert [word for word, _ in words] == ["one", "red", "and", "one", "blue"]
    half = 1 / 2**0.5
    # without red nothing red is left; without blue the text is all red
    assert [drop for _, drop in words] == pytest.approx([0, half, 0, 0, half - 1], abs=2e-3)
    assert leave_one_out(Colours(), red, "red") == []


def test_the_word_that_is_in_the_picture_matters_most(builtin_encoder, pictures):
    words = dict(explain(builtin_encoder, pictures["a cat"], "a photo of a cat").words)
    assert max(words, key=words.get) == "cat" and words["cat"] > 0.1


def test_what_cannot_be_explained(tiny_encoder):
    image = Image.new("RGB", (8, 8))
    with pytest.raises(QueryError, match="query is empty"):
        explain(tiny_encoder, image, " ")
    with pytest.raises(QueryError, match="no method 'magic'; choose one of auto, gradient, occlusion"):
        explain(tiny_encoder, image, "a dog", method="magic")
    with pytest.raises(QueryError, match="colours gives no gradients. Explain by --method occlusion"):
        explain(Colours(), image, "red", method="gradient")


def test_json_says_where_it_is_hottest():
    image = Image.new("RGB", (320, 160), "blue")
    image.paste((255, 0, 0), (240, 0, 320, 80))
    found = explain(Colours(), image, "red blue").to_json()
    assert found["method"] == "occlusion" and [one["word"] for one in found["words"]] == ["red", "blue"]
    x, y = found["hottest"]
    assert x > 0.75 and y < 0.5


def test_drawn_bright_where_hot():
    heat = np.zeros((4, 8), np.float32)
    heat[:, 4:] = 1
    picture = np.asarray(drawn(Image.new("RGB", (8, 4), (0, 255, 0)), heat)).astype(int)
    grey = 150  # of this green, by ITU-R 601-2
    assert picture[0, 0] == pytest.approx([0.75 * grey + 0.25 * c for c in (20, 20, 60)], abs=1)
    assert picture[0, 7] == pytest.approx([0.25 * grey + 0.75 * c for c in (252, 255, 164)], abs=1)


def test_half_blocks_are_two_pixels_each():
    image = Image.new("RGB", (4, 4), "red")
    image.paste((0, 0, 255), (0, 2, 4, 4))
    assert half_blocks(image, 2) == [[((255, 0, 0), (0, 0, 255))] * 2]
    assert len(half_blocks(Image.new("RGB", (1000, 1)), 10)) == 1
