"""Tags from stored vectors: which labels, and that no image is opened for them."""

import shutil

import numpy as np
import pytest

from retrieval.classify import tags as room
from retrieval.classify.prompts import TEMPLATES, class_vectors
from retrieval.classify.tags import Rule, Tagger, check_labels, read_labels
from retrieval.collection import Collection
from retrieval.errors import ClassesError, CollectionError
from retrieval.images import open_image
from retrieval.maintain import Options, index_sources

LABELS = ["cat", "cup of coffee", "flower", "temple"]
RIGHT = {"chelsea.png": "cat", "coffee.png": "cup of coffee", "flower.jpg": "flower", "2019/beach/china.jpg": "temple"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, sample_photos, builtin_encoder):
    """Four photos by the built-in encoder; the files themselves are gone."""
    folder = tmp_path_factory.mktemp("tags")
    names = {path.name: path for path in sample_photos}
    for id in RIGHT:
        (folder / "photos" / id).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(names[id.rpartition("/")[2]], folder / "photos" / id)
    path = folder / "c.collection"
    index_sources([folder / "photos"], path, Options(model="builtin", device="cpu"))
    shutil.rmtree(folder / "photos")
    return path


@pytest.fixture
def collection(made, builtin_encoder):
    with Collection.open(made, encoder=builtin_encoder) as opened:
        yield opened


def test_photos_get_the_label_that_is_right(collection):
    best = {image.id: image.tags[0] for image in Tagger(collection, LABELS).tags()}
    assert {id: tag.label for id, tag in best.items()} == RIGHT
    assert all(tag.probability > 0.4 for tag in best.values())  # by chance 0.25


def test_scores_are_cosines_and_probabilities_their_softmax(collection, builtin_encoder, sample_photos):
    tagger = Tagger(collection, LABELS, Rule(top=None, threshold=-1))
    cat = next(image for image in tagger.tags() if image.id == "chelsea.png")
    (photo,) = [open_image(path)[0] for path in sample_photos if path.name == "chelsea.png"]
    image = builtin_encoder.encode_images([photo])[0]
    scores = class_vectors([[label] for label in LABELS], TEMPLATES, builtin_encoder) @ image
    shares = np.exp(builtin_encoder.logit_scale * scores)
    shares /= shares.sum()
    order = np.argsort(-scores)
    assert [tag.label for tag in cat.tags] == [LABELS[label] for label in order]
    np.testing.assert_allclose([tag.score for tag in cat.tags], scores[order], atol=2e-3)
    np.testing.assert_allclose([tag.probability for tag in cat.tags], shares[order], atol=0.02)
    assert sum(tag.probability for tag in cat.tags) == pytest.approx(1, abs=1e-5)


def test_blocks_are_bounded_and_say_the_same(collection, monkeypatch):
    whole = list(Tagger(collection, LABELS).tags())
    taken = []
    take = collection.vectors.take
    monkeypatch.setattr(collection.vectors, "take", lambda rows: taken.append(len(rows)) or take(rows))
    monkeypatch.setattr(room, "_SCORES_AT_ONCE", 2 * len(LABELS))
    images = Tagger(collection, LABELS).tags()
    assert next(images) == whole[0] and taken == [2]  # the rest is not read before it is asked for
    assert [whole[0], *images] == whole and taken == [2, 2]


@pytest.mark.parametrize(("rule", "given"), [
    (Rule(), [[0, 1, 1, 1], [0, 0, 1, 0]]),  # the best three of 0.1 or more
    (Rule(top=1), [[0, 1, 0, 0], [0, 0, 1, 0]]),  # of equals the first
    (Rule(probability=0.0, top=None), [[1, 1, 1, 1], [1, 1, 1, 1]]),
    (Rule(threshold=0.2, top=None), [[0, 1, 1, 1], [1, 1, 1, 1]]),
    (Rule(threshold=0.25, top=2), [[0, 0, 0, 0], [0, 1, 1, 0]]),
])
def test_rules(rule, given):
    scores = np.array([[0.1, 0.22, 0.22, 0.2], [0.26, 0.3, 0.5, 0.28]], np.float32)
    probabilities = np.array([[0.04, 0.33, 0.33, 0.3], [0.02, 0.04, 0.91, 0.03]], np.float32)
    assert rule.given(scores, probabilities).astype(int).tolist() == given


def test_rules_in_words():
    assert Rule().in_words == "the best 3 labels with probability >= 0.1"
    assert Rule(top=None, threshold=0.25).in_words == "labels with score >= 0.25"


def test_judged_by_truth(collection, tmp_path):
    file = tmp_path / "truth.csv"
    wrong = {**RIGHT, "flower.jpg": "cat"}
    file.write_text("image,label\n" + "".join(f"{id},{label}\n" for id, label in wrong.items()))
    scores = Tagger(collection, LABELS, Rule(top=1)).judge(file)
    assert (scores.images, scores.accuracy.value, scores.exact.value) == (4, 0.75, 0.75)
    assert scores.micro == (0.75, 0.75, 0.75)
    by_label = {one.label: one for one in scores.per_label}
    assert (by_label["cat"].recall, by_label["cat"].precision, by_label["flower"].given) == (0.5, 1.0, 1)


def test_a_collection_rewritten_meanwhile(collection, monkeypatch):
    images = Tagger(collection, LABELS).tags()
    monkeypatch.setattr(collection.catalog, "was_replaced", lambda: True)
    with pytest.raises(CollectionError, match="was rewritten meanwhile. Run the command again"):
        next(images)


def test_a_single_label_needs_a_threshold(collection):
    with pytest.raises(ClassesError, match="nothing to be more probable than"):
        Tagger(collection, ["cat"])
    tagged = [image.id for image in Tagger(collection, ["cat"], Rule(None, 0.25)).tags() if image.tags]
    assert tagged == ["chelsea.png"]


def test_labels_from_a_file(tmp_path):
    (tmp_path / "l.txt").write_text("\ufeffdog\n\n  a red car \r\n")
    assert read_labels(tmp_path / "l.txt") == ["dog", "a red car"]


@pytest.mark.parametrize(("content", "message"), [
    ("", "l.txt holds no label"), ("\n  \n", "l.txt holds no label"),
    ("dog\ncat\nDog\ncat\n", "labels more than once: dog, cat. Keep"),
])
def test_labels_to_mend(content, message, tmp_path):
    (tmp_path / "l.txt").write_text(content)
    with pytest.raises(ClassesError, match=message):
        read_labels(tmp_path / "l.txt")
    with pytest.raises(ClassesError, match="an empty label"):
        check_labels(["dog", ""], "--label")
