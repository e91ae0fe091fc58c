"""The whole: real photos, a real encoder, splits, and what is left out."""

import logging
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from retrieval import encoders, maintain
from retrieval.classify import ProbeSettings, classify
from retrieval.classify.scores import ClassScores
from retrieval.errors import ClassesError, EncoderError
from retrieval.images import open_image

PHOTOS = {
    "cat": "chelsea.png", "cup_of-coffee": "coffee.png", "motorcycle": "motorcycle_left.png",
    "flower": "flower.jpg", "horse": "horse.png", "temple": "china.jpg",
}
COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


@pytest.fixture
def photos(tmp_path, sample_photos):
    """A folder per class with a photo and its mirror image."""
    sources = {path.name: path for path in sample_photos}
    for folder, name in PHOTOS.items():
        (tmp_path / "photos" / folder).mkdir(parents=True)
        with Image.open(sources[name]) as image:
            small = image.convert("RGB").resize((256, 256))
        small.save(tmp_path / "photos" / folder / "1.png")
        ImageOps.mirror(small).save(tmp_path / "photos" / folder / "2.png")
    return tmp_path / "photos"


@pytest.fixture
def builtin(monkeypatch, builtin_encoder):
    """The built-in encoder, loaded once."""
    for room in (encoders, maintain):
        monkeypatch.setattr(room, "load_encoder", lambda name, **_: builtin_encoder)
    return builtin_encoder


@pytest.fixture
def coloured(tmp_path):
    """coloured("train", each=4) makes images of a colour per class below the data set's folder."""
    root = tmp_path / "colours"

    def make(part=".", each=4, seed=0, classes=tuple(COLOURS)):
        chance = np.random.default_rng(seed)
        for name in classes:
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(each):
                pixels = np.clip(COLOURS[name] + chance.integers(-20, 20, (32, 32, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.png")
        return root

    return make


@pytest.fixture
def tiny(loaded_once, tiny_encoder):
    return {"model": tiny_encoder.name, "device": "cpu"}


def test_the_built_in_encoder_names_real_photos(photos, builtin):
    result = classify(photos, "builtin", device="cpu")
    by_class = {one.folder: one for one in result.zero_shot.per_class}
    assert list(by_class) == sorted(PHOTOS) and by_class["cup_of-coffee"].name == "cup of coffee"
    assert {folder: one.recall for folder, one in by_class.items()} == {folder: 1.0 for folder in PHOTOS}
    assert (result.zero_shot.top_1.value, result.zero_shot.top_5.value, result.zero_shot.macro_f1) == (1, 1, 1)
    assert (result.model, result.encoder, result.classes, result.split) == ("builtin", "builtin", 6, "all images")
    assert (result.left_out, result.unlabelled, result.skipped, result.linear_probe) == ([], [], [], None)


def test_names_say_what_is_looked_for(photos, builtin, tmp_path):
    """Cats called motorcycles, and motorcycles cats."""
    swapped = {**{folder: folder for folder in PHOTOS}, "cat": "motorcycle", "motorcycle": "cat"}
    (tmp_path / "names.tsv").write_text("".join(f"{folder}\t{name}\n" for folder, name in swapped.items()))
    result = classify(photos, "builtin", names=tmp_path / "names.tsv", device="cpu")
    recalls = {one.folder: one.recall for one in result.zero_shot.per_class}
    assert (recalls["cat"], recalls["motorcycle"], recalls["temple"], recalls["flower"]) == (0, 0, 1, 1)
    assert result.zero_shot.per_class[0].name == "motorcycle"


def test_scores_are_those_of_the_encoder(photos, builtin, tmp_path):
    """The definition at length, from pixels and sentences."""
    (tmp_path / "t.txt").write_text("a {}\none {c} there\n")
    result = classify(photos, "builtin", templates=tmp_path / "t.txt", device="cpu")
    assert result.templates == ["a {}", "one {c} there"]
    vectors = []
    for folder in sorted(PHOTOS):
        name = folder.replace("_", " ").replace("-", " ")
        mean = builtin.encode_texts([f"a {name}", f"one {name} there"]).mean(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    for label, one in enumerate(result.zero_shot.per_class):
        images = [open_image(photos / one.folder / f"{number}.png")[0] for number in (1, 2)]
        predicted = (builtin.encode_images(images) @ np.array(vectors).T).argmax(axis=1)
        assert one.recall == (predicted == label).mean()


def test_probe_on_a_split_of_the_classes(coloured, tiny):
    result = classify(coloured(each=8), probe=ProbeSettings(), **tiny)
    assert result.split == "25% of each class, drawn with seed 0"
    assert [one.support for one in result.linear_probe.per_class] == [2, 2, 2]
    assert result.probe.train_images == 18 and result.probe.c_chosen
    assert result.linear_probe.top_1.value == 1.0
    assert result.zero_shot.images == result.linear_probe.images == 6
    assert list(result.by_method) == ["zero-shot", "linear probe"] and result.headline is result.linear_probe


def test_probe_learns_from_train_and_is_judged_by_test(coloured, tiny):
    coloured("train", each=5)
    folder = coloured("test", each=3, seed=1)
    result = classify(folder, probe=ProbeSettings(test_share=0.9), **tiny)
    assert (result.split, result.probe.train_images) == ("images of test", 15)
    assert [one.support for one in result.linear_probe.per_class] == [3, 3, 3]
    assert result.linear_probe.top_1.value == 1.0
    few = classify(folder, probe=ProbeSettings(shots=2), **tiny)
    assert few.probe.train_images == 6 and few.linear_probe.images == 9


def test_the_test_part_has_no_say_in_c(coloured, tiny):
    coloured("train", each=6)
    folder = coloured("test", each=3, seed=1)
    before = classify(folder, probe=ProbeSettings(), **tiny)
    test = folder / "test"
    for old, new in (("red", "kept"), ("green", "red"), ("blue", "green"), ("kept", "blue")):
        (test / old).rename(test / new)
    after = classify(folder, probe=ProbeSettings(), **tiny)
    assert (before.linear_probe.top_1.value, after.linear_probe.top_1.value) == (1.0, 0.0)
    assert after.probe.c == before.probe.c
    np.testing.assert_array_equal(after.probe.weights, before.probe.weights)


def test_zero_shot_needs_no_train_images(coloured, tiny, cache_folder):
    (coloured("test", each=2) / "train").mkdir()
    result = classify(coloured("test", each=2), **tiny)
    assert (result.split, result.zero_shot.images, result.probe) == ("images of test", 6, None)


def test_what_takes_no_part_is_named(coloured, tiny):
    coloured("train", each=3)
    folder = coloured("test", each=2, seed=1)
    Image.new("RGB", (8, 8)).save(folder / "loose.png")
    Image.new("RGB", (8, 8)).save(folder / "test" / "loose.png")
    (folder / "test" / "broken").mkdir()
    (folder / "test" / "broken" / "x.jpg").write_text("no image")
    (folder / "test" / "red" / "x.jpg").write_text("no image")
    (folder / "test" / "empty").mkdir()
    coloured("train", each=2, classes=["red"])
    shutil.copytree(folder / "test" / "red", folder / "test" / "untaught")
    shutil.copytree(folder / "train" / "red", folder / "train" / "untested")
    result = classify(folder, probe=ProbeSettings(), **tiny)
    assert [one.folder for one in result.zero_shot.per_class] == ["blue", "green", "red"]
    assert result.left_out == [
        ("broken", "no readable image"), ("empty", "no readable image"),
        ("untaught", "no image to learn from"), ("untested", "no image to be judged by"),
    ]
    assert result.unlabelled == ["loose.png", "test/loose.png"]
    reason = "not an image in a format that can be read"
    assert result.skipped == [(str(folder / "test" / name / "x.jpg"), reason) for name in ("broken", "red", "untaught")]
    content = result.to_json()
    assert content["left_out"][0] == {"class": "broken", "reason": "no readable image"}
    assert content["skipped"][1] == {"path": str(folder / "test" / "red" / "x.jpg"), "reason": reason}


def test_a_class_of_one_image_cannot_be_split(coloured, tiny):
    folder = coloured(each=4)
    for number in (1, 2, 3):
        (folder / "blue" / f"{number}.png").unlink()
    result = classify(folder, probe=ProbeSettings(), **tiny)
    assert result.left_out == [("blue", "no image to be judged by")]
    assert result.zero_shot.images == 2 and result.probe.train_images == 6


def test_fewer_than_two_classes_that_can_be_read(coloured, tiny):
    folder = coloured(each=2, classes=["red"])
    (folder / "blue").mkdir()
    (folder / "blue" / "x.jpg").write_text("no image")
    with pytest.raises(ClassesError, match="Fewer than two classes of .*colours are left.*blue: no readable image"):
        classify(folder, **tiny)


def test_mistakes_are_told_before_anything_is_embedded(coloured, tmp_path, monkeypatch):
    from retrieval import classify as room

    def forbidden(*_, **__):
        raise AssertionError("embedded")

    monkeypatch.setattr(room, "open_embedded", forbidden)
    (tmp_path / "names.tsv").write_text("red\tred\n")
    with pytest.raises(ClassesError, match="names 1 of the 3 class folders"):
        classify(coloured(each=1), names=tmp_path / "names.tsv")
    (tmp_path / "t.txt").write_text("nothing\n")
    with pytest.raises(ClassesError, match="line 1"):
        classify(coloured(each=1), templates=tmp_path / "t.txt")


def test_equal_names_are_told(coloured, tiny, tmp_path, caplog):
    (tmp_path / "names.tsv").write_text("red\tcrane\nblue\tcrane\ngreen\tmoss\n")
    with caplog.at_level(logging.WARNING, "retrieval"):
        result = classify(coloured(each=2), names=tmp_path / "names.tsv", **tiny)
    assert any("called the same (crane)" in message for message in caplog.messages)
    red = next(one for one in result.zero_shot.per_class if one.folder == "red")  # of equals, blue comes first
    assert red == ClassScores("red", "crane", 0.0, 0.0, 0.0, 2)


def test_seeds_repeat_the_split(coloured, tiny):
    def drawn(seed):
        return classify(coloured(each=6), probe=ProbeSettings(test_share=0.5), seed=seed, **tiny)

    first, again, other = drawn(0), drawn(0), drawn(1)
    np.testing.assert_array_equal(first.probe.weights, again.probe.weights)
    assert first.to_json() == again.to_json()
    assert not np.array_equal(first.probe.weights, other.probe.weights)


def test_the_order_of_embedding_does_not_change_the_split(coloured, tiny):
    folder = coloured(each=6)
    before = classify(folder, probe=ProbeSettings(), **tiny)
    first = folder / "blue" / "0.png"
    os.utime(first, ns=(1, 1))  # looks changed: embedded again, in a row behind all others
    after = classify(folder, probe=ProbeSettings(), **tiny)
    np.testing.assert_array_equal(after.probe.weights, before.probe.weights)


def test_an_unknown_model(coloured):
    with pytest.raises(EncoderError, match="no model named 'nonsense'"):
        classify(coloured(each=1), "nonsense")
