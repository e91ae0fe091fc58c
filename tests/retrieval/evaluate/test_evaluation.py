import json
import math

import numpy as np
import pytest
from PIL import Image

from retrieval import maintain
from retrieval.bootstrap import mean_intervals
from retrieval.collection import Collection
from retrieval.errors import CaptionsError
from retrieval.evaluate import evaluation as room
from retrieval.evaluate.evaluation import evaluate
from retrieval.maintain import index_sources
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
        index_sources([folder], tmp_path / "images.collection")
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


def values(scores, *names):
    return [scores.estimates[name].value for name in names]


def test_every_number(indexed, captions):
    result = run(indexed(IMAGES), captions(*CAPTIONS))
    texts, images = result.text_to_image, result.image_to_text
    assert texts.ranks.ranks.tolist() == TEXT_RANKS
    assert images.ranks.first.tolist() == IMAGE_RANKS
    assert (texts.queries, texts.documents, images.queries, images.documents) == (8, 7, 4, 8)
    assert values(texts, "R@1", "R@5", "R@10", "median_rank", "mean_rank") == [0.5, 0.875, 1.0, 1.5, 18 / 8]
    assert values(texts, "MRR", "mAP") == [pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 7 + 1 + 1 + 1 / 2 + 1) / 8)] * 2
    assert values(texts, "recall@5", "precision@5", "F1@5") == pytest.approx([7 / 8, 7 / 40, 7 / 8 * 2 / 6])
    assert values(images, "R@1", "R@5", "median_rank", "mean_rank", "MRR") == pytest.approx(
        [0.5, 1.0, 1.5, 7 / 4, (1 + 1 + 1 / 3 + 1 / 2) / 4])
    # a's own come 1st, 2nd, 3rd, 4th ("at 30", before b's "at 42") and 6th ("at 101")
    assert values(images, "recall@1", "precision@1")[0] == pytest.approx((1 / 5 + 1 + 0 + 0) / 4)
    assert images.per_query["mAP"][0] == pytest.approx((1 + 1 + 1 + 1 + 5 / 6) / 5)
    assert result.r_sums[""].value == pytest.approx(100 * (0.5 + 0.875 + 1 + 0.5 + 1 + 1))
    problems = result.task.problems
    assert (problems.missing, problems.ambiguous) == (["gone.png"], ["dup.png"])
    assert (problems.empty, problems.malformed) == (1, [])
    assert sorted(problems.uncaptioned) == ["one/dup.png", "two/dup.png", "x.png"]


def test_json_holds_all_of_it(indexed, captions):
    result = run(indexed(IMAGES), captions(*CAPTIONS))
    found = json.loads(json.dumps(result.to_json()))
    assert (found["model"], found["encoder"], found["images"], found["captions"]) == ("compass", "compass", 7, 8)
    texts, images = found["results"]
    assert (texts["direction"], images["direction"]) == ("text_to_image", "image_to_text")
    low, high = mean_intervals(result.text_to_image.per_query["R@5"], clusters=result.task.images)
    assert texts["metrics"]["R@5"] == [0.875, round(low, 6), round(high, 6)]
    assert found["problems"]["empty captions, left out"] == {"count": 1, "names": []}
    assert found["problems"]["captioned images that are not here"] == {"count": 1, "names": ["gone.png"]}


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
    assert values(result.text_to_image, "MRR") == [pytest.approx((1 / 3 + 1 + 1) / 3)]
    # a is nearest to "at 41" (b's), then its own; b and c to their own
    assert values(result.image_to_text, "MRR") == [pytest.approx((1 / 2 + 1 + 1) / 3)]
    assert result.task.problems.described() == []


def test_equal_images_rank_by_row(indexed, captions):
    result = run(indexed({"a.png": 30, "b.png": 30}), captions("a.png\tat 30", "b.png\tat 30"))
    assert values(result.text_to_image, "MRR") == values(result.image_to_text, "MRR") == [(1 + 1 / 2) / 2]


def test_languages_are_asked_one_by_one(indexed, captions):
    """The other language's captions do not compete for an image's query."""
    table = captions(
        "a.png\tat 1\ten", "b.png\tat 39\ten", "a.png\tat 35\tzh", "b.png\tat 36\tzh",
        columns="image\tcaption\tlanguage",
    )
    result = run(indexed({"a.png": 0, "b.png": 40}), table)
    assert [(one.language, one.direction) for one in result.directions] == [
        (language, direction) for language in ("en", "zh") for direction in ("text_to_image", "image_to_text")]
    assert result.direction("text_to_image", "en").hit_rates[1] == 1.0
    assert result.direction("text_to_image", "zh").hit_rates[1] == 0.5
    assert result.direction("image_to_text", "zh").ranks.first.tolist() == [1, 1]
    assert [one.documents for one in result.directions] == [2, 2, 2, 2]
    assert set(result.r_sums) == {"en", "zh"} and result.r_sums["zh"].value == 100 * (0.5 + 1 + 1 + 3)


def test_dropped_and_changed_images_do_not_compete(indexed, captions):
    indexed(IMAGES)
    images = {name: degrees for name, degrees in IMAGES.items() if name != "x.png"}
    result = run(indexed({**images, "d.png": 124}), captions(*CAPTIONS))
    # Without x every rank behind it improves by one; d, now at 124, is still before c for "at 119".
    ranks = [1, 1, 2, 6, 1, 1, 2, 1]
    assert (len(result.task.ids), len(result.task.problems.uncaptioned)) == (6, 2)
    assert values(result.text_to_image, "MRR") == [pytest.approx(sum(1 / rank for rank in ranks) / 8)]
    assert result.text_to_image.hit_rates[1] == 5 / 8
    assert values(result.image_to_text, "MRR") == [pytest.approx((1 + 1 + 1 / 3 + 1) / 4)]  # d: "at 125" first


def test_a_split(indexed, captions):
    table = captions(
        "a.png\tat 0\ttest", "b.png\tat 1\ttrain", "c.png\tat 81\ttest", columns="image\tcaption\tsplit"
    )
    result = run(indexed(IMAGES), table, split="test")
    assert (len(result.task.captions), len(result.task.problems.uncaptioned), len(result.task.ids)) == (2, 5, 7)
    assert result.text_to_image.hit_rates[1] == 1.0


@pytest.mark.parametrize("block", [1, 3, 8, 100])
def test_texts_are_embedded_in_blocks(indexed, captions, monkeypatch, block):
    path, table = indexed(IMAGES), captions(*CAPTIONS)
    expected = run(path, table)
    monkeypatch.setattr(room, "TEXT_BLOCK", block)
    told = []
    found = run(path, table, progress=lambda done, total: told.append((done, total)))
    assert found.to_json() == expected.to_json()
    assert told == [(min(block * step, 8), 8) for step in range(1, math.ceil(8 / block) + 1)]


def test_captions_of_other_images_are_refused(indexed, captions):
    with pytest.raises(CaptionsError, match="None of the 1 images the captions name"):
        run(indexed(IMAGES), captions("elsewhere.png\tat 3"))


def test_the_encoder_on_record_is_used(photo_folder, tiny_encoder, captions, tmp_path):
    index_sources([photo_folder], tmp_path / "p.collection", maintain.Options(tiny_encoder.name))
    table = captions(*(f"{path.name}\t{path.stem}" for path in photo_folder.rglob("*.*")))
    with Collection.open(tmp_path / "p.collection", device="cpu", precision="float32") as collection:
        found = evaluate(collection, table)
        assert found.to_json() == evaluate(collection, table, encoder=tiny_encoder).to_json()
    assert (found.encoder, len(found.task.ids), len(found.task.captions)) == (tiny_encoder.name, 6, 6)
