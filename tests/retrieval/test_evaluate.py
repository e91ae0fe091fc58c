import json
import math

import numpy as np
import pytest
from PIL import Image

from retrieval import evaluate as room
from retrieval import maintain
from retrieval.collection import Collection
from retrieval.errors import CaptionsError
from retrieval.evaluate import evaluate
from retrieval.maintain import index_folders
from retrieval.types import Encoder


class Compass:
    """Images and texts are directions in the plane: a red level of 40, and "at 40", are 40 degrees."""

    name, dim, fingerprint = "compass", 2, "compass-1"

    def prepare(self, image):
        return image.getpixel((0, 0))[0]

    def encode_prepared(self, prepared):
        angles = np.radians(np.array(prepared, np.float32))
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (n, 2)

    def encode_images(self, images):
        return self.encode_prepared([self.prepare(image) for image in images])

    def encode_texts(self, texts):
        return self.encode_prepared([int(text.removeprefix("at ")) for text in texts])


@pytest.fixture
def indexed(tmp_path, monkeypatch):
    """indexed({"a.png": 40}) makes or updates a collection of images with these directions."""
    monkeypatch.setattr(maintain, "load_encoder", lambda *_, **__: Compass())
    monkeypatch.setattr(maintain, "load_recorded_encoder", lambda *_, **__: Compass())
    folder = tmp_path / "images"

    def index(directions):
        for name, degrees in directions.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (2, 2), (degrees, 0, 0)).save(folder / name)
        for path in [path for path in folder.rglob("*.png")]:
            if path.relative_to(folder).as_posix() not in directions:
                path.unlink()
        index_folders([folder], tmp_path / "images.collection")
        return tmp_path / "images.collection"

    return index


@pytest.fixture
def captions(tmp_path):
    def write(*lines, columns="image\tcaption"):
        path = tmp_path / "captions.tsv"
        path.write_text("\n".join([columns, *lines]) + "\n")
        return path

    return write


IMAGES = {
    "a.png": 0, "b.png": 40, "c.png": 80, "d.png": 120,
    "one/dup.png": 160, "two/dup.png": 170,  # "dup.png" could be either
    "x.png": 10,  # without a caption
}
CAPTIONS = (
    "a.png\tat 1", "a.png\tat 6", "a.png\tat 30", "a.png\tat 101", "a.png\tat 0",
    "b.png\tat 42", "b.png\t ", "c.png\tat 119", "d.png\tat 125",
    "gone.png\tat 50", "dup.png\tat 160",
)
# Text to image, among all seven: "at 6" has x before a; "at 30" has b, x, a; "at 101" has a last;
# "at 119" has d before c. Image to text, among the eight captions: c has "at 101", "at 42" before
# its "at 119"; d has "at 119" before its "at 125".
TEXT_RANKS = [1, 2, 3, 7, 1, 1, 2, 1]
IMAGE_RANKS = [1, 1, 3, 2]


def run(path, captions, **options):
    with Collection.open(path) as collection:
        return evaluate(collection, captions, encoder=Compass(), **options)


def test_the_encoder_here_keeps_the_protocol():
    assert isinstance(Compass(), Encoder)


def test_every_number(indexed, captions):
    result = run(indexed(IMAGES), captions(*CAPTIONS))
    assert result.to_json() == {
        "encoder": "compass",
        "images": 7,
        "captions": 8,
        "text_to_image": {
            "queries": 8, "R@1": 50.0, "R@5": 87.5, "R@10": 100.0, "median_rank": 1.5,
            "MRR": round((1 + 1 / 2 + 1 / 3 + 1 / 7 + 1 + 1 + 1 / 2 + 1) / 8, 6),
        },
        "image_to_text": {
            "queries": 4, "R@1": 50.0, "R@5": 100.0, "R@10": 100.0, "median_rank": 1.5,
            "MRR": round((1 + 1 + 1 / 3 + 1 / 2) / 4, 6),
        },
        "uncaptioned": 3,
        "empty_captions": 1,
        "missing_files": 1,
        "ambiguous_names": 1,
    }
    assert (result.missing, result.ambiguous) == (["gone.png"], ["dup.png"])
    assert json.loads(json.dumps(result.to_json())) == result.to_json()


def test_the_ranks_behind_the_numbers(indexed, captions, monkeypatch):
    seen = []
    exact = room.first_relevant_ranks
    monkeypatch.setattr(room, "first_relevant_ranks", lambda *args: seen.append(exact(*args)) or seen[-1])
    run(indexed(IMAGES), captions(*CAPTIONS))
    assert [ranks.tolist() for ranks in seen] == [TEXT_RANKS, IMAGE_RANKS]


def test_the_order_of_captions_does_not_matter(indexed, captions):
    path = indexed(IMAGES)
    expected = run(path, captions(*CAPTIONS)).to_json()
    assert run(path, captions(*CAPTIONS[::-1])).to_json() == expected
    assert run(path, captions(*CAPTIONS[1::2], *CAPTIONS[::2])).to_json() == expected


def test_one_caption_each(indexed, captions):
    result = run(indexed({"a.png": 0, "b.png": 40, "c.png": 90}), captions(
        "a.png\tat 50", "b.png\tat 41", "c.png\tat 100",  # a comes last: b 10, c 40, a 50
    ))
    assert result.text_to_image.hit_rates == {1: pytest.approx(2 / 3), 5: 1.0, 10: 1.0}
    assert result.text_to_image.to_json()["R@1"] == 66.6667
    assert result.text_to_image.mrr == pytest.approx((1 / 3 + 1 + 1) / 3)
    # a is nearest to "at 41" (b's), then its own; b and c to their own
    assert result.image_to_text.mrr == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert (result.uncaptioned, result.missing, result.ambiguous, result.empty_captions) == (0, [], [], 0)


def test_equal_images_rank_by_row(indexed, captions):
    result = run(indexed({"a.png": 30, "b.png": 30}), captions("a.png\tat 30", "b.png\tat 30"))
    assert result.text_to_image.mrr == (1 + 1 / 2) / 2
    assert result.image_to_text.mrr == (1 + 1 / 2) / 2


def test_dropped_and_changed_images_do_not_compete(indexed, captions):
    indexed(IMAGES)
    images = {name: degrees for name, degrees in IMAGES.items() if name != "x.png"}
    result = run(indexed({**images, "d.png": 124}), captions(*CAPTIONS))
    # Without x every rank behind it improves by one; d, now at 124, is still before c for "at 119".
    ranks = [1, 1, 2, 6, 1, 1, 2, 1]
    assert (result.images, result.uncaptioned) == (6, 2)
    assert result.text_to_image.mrr == pytest.approx(sum(1 / rank for rank in ranks) / 8)
    assert result.text_to_image.hit_rates[1] == 5 / 8
    assert result.image_to_text.mrr == pytest.approx((1 + 1 + 1 / 3 + 1) / 4)  # d: "at 125" first


def test_a_split(indexed, captions):
    table = captions(
        "a.png\tat 0\ttest", "b.png\tat 1\ttrain", "c.png\tat 81\ttest", columns="image\tcaption\tsplit"
    )
    result = run(indexed(IMAGES), table, split="test")
    assert (result.captions, result.uncaptioned, result.images) == (2, 5, 7)
    assert result.text_to_image.hit_rates[1] == 1.0


@pytest.mark.parametrize("block", [1, 3, 8, 100])
def test_texts_are_embedded_in_blocks(indexed, captions, monkeypatch, block):
    path, table = indexed(IMAGES), captions(*CAPTIONS)
    expected = run(path, table)
    monkeypatch.setattr(room, "TEXT_BLOCK", block)
    told = []
    assert run(path, table, progress=lambda done, total: told.append((done, total))) == expected
    assert told == [(min(block * step, 8), 8) for step in range(1, math.ceil(8 / block) + 1)]


def test_captions_of_other_images_are_refused(indexed, captions):
    with pytest.raises(CaptionsError, match="None of the 1 images the captions name"):
        run(indexed(IMAGES), captions("elsewhere.png\tat 3"))


def test_the_encoder_on_record_is_used(photo_folder, tiny_encoder, captions, tmp_path):
    index_folders([photo_folder], tmp_path / "p.collection", maintain.Options(tiny_encoder.name))
    table = captions(*(f"{path.name}\t{path.stem}" for path in photo_folder.rglob("*.*")))
    with Collection.open(tmp_path / "p.collection", device="cpu", precision="float32") as collection:
        found = evaluate(collection, table)
        assert found == evaluate(collection, table, encoder=tiny_encoder)
    assert (found.encoder, found.images, found.captions) == (tiny_encoder.name, 6, 6)
