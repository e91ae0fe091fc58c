"""Augmentation: within its bounds, the same for the same chance, and never untrue."""

import random

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from retrieval.errors import TrainingError
from retrieval.train.augment import NONE, Augmentation, allows_flip


class Drawn(random.Random):
    """Draws what it is told: numbers in their turn, and the operation at a place."""

    def __new__(cls, *numbers, operation=None):  # Python 3.10 hands all of them on
        return super().__new__(cls)

    def __init__(self, *numbers, operation=None):
        super().__init__(0)
        self._numbers, self._operation = iter(numbers), operation

    def uniform(self, low, high):
        number = next(self._numbers)
        assert low <= number <= high
        return number

    def choice(self, options):
        return options[self._operation]


def places(width, height):
    """An image whose red is the column, and whose green the row."""
    rows, columns = np.indices((height, width), np.uint8)
    return Image.fromarray(np.dstack([columns, rows, np.full_like(rows, 9)]))


@pytest.fixture(scope="module")
def photo(sample_photos):
    image = Image.open(next(path for path in sample_photos if path.name == "chelsea.png")).convert("RGB")
    return image.resize((96, 64))


def test_nothing_is_nothing(photo):
    assert NONE.image(photo, True, random.Random(1)).tobytes() == photo.tobytes()
    assert NONE.text("a  cat ", random.Random(1)) == "a  cat "


def test_crops_are_parts_of_their_share():
    image = places(200, 160)
    shares = []
    for seed in range(300):
        crop = Augmentation(crop=0.3, flip=False, colour=0).image(image, True, random.Random(seed))
        left, top, _ = crop.getpixel((0, 0))
        assert crop.tobytes() == image.crop((left, top, left + crop.width, top + crop.height)).tobytes()
        assert crop.getpixel((crop.width - 1, crop.height - 1))[:2] == (left + crop.width - 1, top + crop.height - 1)
        assert 3 / 4 - 0.02 < crop.width / crop.height < 4 / 3 + 0.02
        shares.append(crop.width * crop.height / (200 * 160))
    assert 0.29 < min(shares) < 0.33 and 0.97 < max(shares) <= 1.0
    assert np.mean(shares) == pytest.approx(0.65, abs=0.03)


@pytest.mark.parametrize(("size", "part"), [((250, 12), (16, 12)), ((9, 200), (9, 12)), ((1, 1), (1, 1)), ((1, 90), (1, 1))])
def test_of_images_too_long_for_a_crop_a_part_that_is_not(size, part):
    image = places(*size)
    corners = set()
    for seed in range(30):
        crop = Augmentation(crop=0.5, flip=False, colour=0).image(image, True, random.Random(seed))
        assert crop.size == part
        left, top, _ = crop.getpixel((0, 0))
        assert crop.tobytes() == image.crop((left, top, left + part[0], top + part[1])).tobytes()
        corners.add((left, top))
    assert len(corners) > (1 if min(size) > 1 else 0)


def test_half_of_the_photos_are_mirrored_and_only_where_texts_allow_it():
    image = places(8, 4)
    augmentation = Augmentation(crop=1, flip=True, colour=0)
    mirrored = [augmentation.image(image, True, random.Random(seed)).getpixel((0, 0))[0] == 7 for seed in range(400)]
    assert 160 < sum(mirrored) < 240
    seed = mirrored.index(True)
    assert augmentation.image(image, True, random.Random(seed)).tobytes() == ImageOps.mirror(image).tobytes()
    never = Augmentation(crop=1, flip=False, colour=0)
    for seed in range(40):
        assert augmentation.image(image, False, random.Random(seed)).tobytes() == image.tobytes()
        assert never.image(image, True, random.Random(seed)).tobytes() == image.tobytes()


@pytest.mark.parametrize(("factors", "most"), [((1.2, 1, 1), 1), ((1, 0.8, 1), 1), ((1, 1, 1.2), 1), ((0.9, 1.1, 0.85), 2)])
def test_colours_change_as_pillow_changes_them(photo, factors, most):
    expected = photo.point(lambda value: 70 + value // 4)  # far from black and white, where steps would be cut off
    found = Augmentation(crop=1, flip=False, colour=0.2).image(expected, True, Drawn(*factors))
    for enhance, factor in zip((ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors):
        expected = enhance(expected).enhance(factor)
    apart = np.abs(np.asarray(found, int) - np.asarray(expected, int))
    assert apart.max() <= most  # it rounds down at each of its steps


def test_colours_by_hand():
    """Half black, half (200, 100, 0): grey 118.5 of the latter, 59 on average after rounding."""
    image = Image.new("RGB", (2, 1))
    image.putpixel((1, 0), (200, 100, 0))
    brighter, paler, greyer = (
        Augmentation(crop=1, flip=False, colour=0.5).image(image, True, Drawn(*factors)).getpixel((1, 0))
        for factors in ((1.2, 1, 1), (1, 0.5, 1), (1, 1, 0.5))
    )
    assert brighter == (240, 120, 0)
    assert np.allclose(paler, (129.6, 79.6, 29.6), atol=0.6)  # half of the colour, half of the mean grey
    assert np.allclose(greyer, (159.25, 109.25, 59.25), atol=0.6)  # half of the colour, half of its grey


def test_randaugment_keeps_size_and_changes_the_photo(photo):
    augmentation = Augmentation(crop=1, flip=False, colour=0, randaugment=2)
    results = [augmentation.image(photo, True, random.Random(seed)) for seed in range(60)]
    assert {(one.size, one.mode) for one in results} == {((96, 64), "RGB")}
    assert sum(one.tobytes() != photo.tobytes() for one in results) >= 58
    assert len({one.tobytes() for one in results}) >= 55
    assert augmentation.image(photo, True, random.Random(7)).tobytes() == results[7].tobytes()


def test_every_operation_takes_the_smallest_image():
    for operation in range(9):
        augmentation = Augmentation(crop=1, flip=False, colour=0, randaugment=1)
        for size in ((1, 1), (2, 40)):
            result = augmentation.image(Image.new("RGB", size, "teal"), True, Drawn(*[0.6] * 3, operation=operation)
                                        if operation in (3, 4, 5) else Drawn(*[0.1] * 3, operation=operation))
            assert (result.size, result.mode) == (size, "RGB")


def test_geometry_by_hand():
    """White everywhere: what is uncovered shows the fill colour."""
    def result(operation, *drawn):
        augmentation = Augmentation(crop=1, flip=False, colour=0, randaugment=1)
        image = augmentation.image(Image.new("RGB", (100, 100), "white"), True, Drawn(*drawn, operation=operation))
        return (np.asarray(image) == 255).all(axis=2)  # (height, width): still there

    sheared = result(6, 0.2)
    assert sheared[50, 2:98].all() and not sheared[2, :8].any() and not sheared[97, 92:].any() and sheared[2, 12:].all()
    np.testing.assert_array_equal(result(7, 0.2), sheared.T)
    shifted = result(8, 0.2, -0.1)
    assert not shifted[:9].any() and not shifted[:, 81:].any() and shifted[11:, :79].all()
    turned = result(5, 30.0)
    assert not turned[2, 2] and turned[50, 50] and turned[50, 10:90].all()


def test_words_are_left_out_in_order_and_never_all():
    text = "two brown dogs run over wet sand"
    words = text.split()
    lengths = []
    for seed in range(300):
        kept = Augmentation(word_dropout=0.4).text(text, random.Random(seed)).split()
        places_kept = [words.index(word) for word in kept]
        assert places_kept == sorted(set(places_kept)) and kept
        lengths.append(len(kept))
    assert np.mean(lengths) == pytest.approx(0.6 * 7, abs=0.25)
    for seed in range(60):
        assert Augmentation(word_dropout=0.99).text("dog  cat", random.Random(seed)) in ("dog", "cat", "dog cat")
    assert {Augmentation(word_dropout=0.99).text("dog cat", random.Random(seed)) for seed in range(60)} >= {"dog", "cat"}


@pytest.mark.parametrize("text", ["dog", "一只狗", "", "  "])
def test_texts_of_one_word_or_none_stay(text):
    assert Augmentation(word_dropout=0.9).text(text, random.Random(0)) == text.strip()


@pytest.mark.parametrize("text", [
    "a dog to the left of a cat", "the RIGHT one", "the leftmost cup", "a right-handed player", "on her lefthand side",
    "arrows turning clockwise", "ein Hund links vom Haus", "die rechte Hand", "un chien à gauche", "a la izquierda",
    "a sinistra", "слева стоит дом", "狗在左边", "右に立つ",
])
def test_sides_forbid_the_mirror(text):
    assert not allows_flip(["a dog", text])


@pytest.mark.parametrize("text", [
    "a bright upright piano", "copyright notice", "a man in front of a cleft rock", "the theft", "ein rechteckiger Tisch",
    "two dogs", "",
])
def test_other_texts_do_not(text):
    assert allows_flip(["a dog", text])


@pytest.mark.parametrize(("given", "message"), [
    ({"crop": 0}, "crop is 0; it has to be above 0"), ({"crop": 1.5}, "crop is 1.5"), ({"colour": 1}, "colour is 1"),
    ({"colour": -0.1}, "colour is -0.1"), ({"randaugment": -1}, "randaugment is -1"), ({"word_dropout": 1.0}, "word_dropout is 1.0"),
])
def test_what_cannot_be_is_refused(given, message):
    with pytest.raises(TrainingError, match=message):
        Augmentation(**given)
