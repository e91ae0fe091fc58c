import json
import shutil

import numpy as np
import pytest

from retrieval import fused as room
from retrieval.collection import Collection
from retrieval.compact import compact
from retrieval.errors import CollectionError, QueryError
from retrieval.maintain import Options, index_sources
from retrieval.manifest import Manifest
from retrieval.rank.relevance import background_vectors

WEIGHTS = {"image": 0.7, "caption": 0.3}
SAID = {"rocket.jpg": ["a launch at night", "smoke"], "coffee.png": ["a cup"], "flower.jpg": ["a cup"]}


@pytest.fixture(autouse=True)
def loaded(loaded_once):
    """Once for all tests here."""


@pytest.fixture
def table(photo_folder):
    """Says something of three of six photos, twice of one."""
    return say(photo_folder, SAID)


def say(folder, captions):
    path = folder.parent / "said.jsonl"
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*"))
    lines = [{"image": name, "caption": text} for name in names for text in captions.get(name, [""])]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def index(table, path, encoder, **options):
    from retrieval.corpus.scanning import TableOptions

    how = Options(encoder.name, "cpu", "float32", **options)
    return index_sources([table], path, how, tables=TableOptions(images=table.parent / "photos"))


def unit(vector):
    return vector / np.linalg.norm(vector)


def expected(path, encoder, captions):
    """{id: vector} worked out from the stored images and the encoder."""
    with Collection.open(path) as opened:
        listed = opened.catalog.indexed()
        images = opened.vectors.take(np.array([row for _, row in listed]))
    found = {}
    for (id, _), image in zip(listed, images):
        texts = encoder.encode_texts(captions[id]) if id in captions else None
        found[id] = image if texts is None else unit(0.7 * image + 0.3 * unit(texts.mean(0)))
    return found


def assert_searched(path, encoder, vectors):
    query = encoder.encode_texts(["a cup of something"])[0]
    with Collection.open(path, encoder=encoder) as opened:
        hits = opened.search("a cup of something")
    exact = {id: float(vector @ query) for id, vector in vectors.items()}
    assert [hit.id for hit in hits] == sorted(exact, key=exact.get, reverse=True)
    np.testing.assert_allclose([hit.score for hit in hits], [exact[hit.id] for hit in hits], atol=2e-3)


def test_images_are_searched_fused_with_what_is_said(table, tmp_path, tiny_encoder):
    path = tmp_path / "c.collection"
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    assert Manifest.load(path).fuse == WEIGHTS
    assert_searched(path, tiny_encoder, expected(path, tiny_encoder, SAID))
    (path / room.FILE_NAME).unlink()  # derived
    assert_searched(path, tiny_encoder, expected(path, tiny_encoder, SAID))


def test_relevance_compares_with_the_background_fused_as_well(table, tmp_path, tiny_encoder):
    path = tmp_path / "c.collection"
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    vectors = np.stack([*expected(path, tiny_encoder, SAID).values()])
    best = (background_vectors(tiny_encoder) @ vectors.T).max(1)
    with Collection.open(path, encoder=tiny_encoder) as opened:
        hits = opened.search("a cup of something", min_score=-1)
    shares = [(best < hit.score).mean() for hit in hits]
    assert max(shares) > 0
    np.testing.assert_allclose([hit.relevance for hit in hits], shares, atol=0.02)  # float16 moves a few over


def test_other_captions_are_fused_anew(table, tmp_path, tiny_encoder, photo_folder):
    path = tmp_path / "c.collection"
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    changed = {"rocket.jpg": ["a cup of something"], "chelsea.png": ["a cat"]}
    report = index(say(photo_folder, changed | {"coffee.png": ["a cup"]}), path, tiny_encoder)
    assert report.encoded == 0 and report.texts == 2
    with Collection.open(path) as opened:
        kept = opened.catalog.captions.by_id()
    said = expected(path, tiny_encoder, {id: [text for other, text in kept if other == id] for id, _ in kept})
    assert ("rocket.jpg", "a cup of something") in kept
    assert_searched(path, tiny_encoder, said)


def test_an_index_with_a_file_and_after_compacting(table, tmp_path, tiny_encoder, photo_folder):
    path = tmp_path / "c.collection"
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    with Collection.open(path) as opened:
        assert opened.vectors.n == 6 + 3
    (photo_folder / "chelsea.png").unlink()
    index_sources([photo_folder], path, Options(tiny_encoder.name, "cpu", "float32"))
    compact(path)
    vectors = expected(path, tiny_encoder, SAID)
    assert len(vectors) == 5
    assert_searched(path, tiny_encoder, vectors)


def test_turning_it_off_and_other_weights(table, tmp_path, tiny_encoder):
    path = tmp_path / "c.collection"
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    index(table, path, tiny_encoder, fuse={})
    assert Manifest.load(path).fuse is None and not (path / room.FILE_NAME).exists()
    assert_searched(path, tiny_encoder, expected(path, tiny_encoder, {}))
    assert "fuse" not in json.loads((path / "manifest.json").read_text())
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    assert_searched(path, tiny_encoder, expected(path, tiny_encoder, SAID))


def test_a_rebuild_goes_on_so(table, tmp_path, tiny_encoder):
    path = tmp_path / "c.collection"
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    from retrieval.corpus.scanning import TableOptions

    index_sources([table], path, Options(tiny_encoder.name, "cpu", "float32"), rebuild=True,
                  tables=TableOptions(images=table.parent / "photos"))
    assert Manifest.load(path).fuse == WEIGHTS
    assert_searched(path, tiny_encoder, expected(path, tiny_encoder, SAID))


def test_captions_have_to_stay(table, tmp_path, tiny_encoder):
    path = tmp_path / "c.collection"
    index(table, path, tiny_encoder, fuse=WEIGHTS)
    with pytest.raises(CollectionError, match="captions have to stay embedded. To search images alone: --fuse image=1"):
        index(table, path, tiny_encoder, captions=False)
    shutil.rmtree(path)


def test_a_file_that_does_not_fit_is_not_taken(tmp_path):
    np.save(tmp_path / room.FILE_NAME, np.zeros((2, 3), np.float16))
    assert room.opened(tmp_path, 2, 3).shape == (2, 3)
    assert room.opened(tmp_path, 3, 3) is None and room.opened(tmp_path / "no", 2, 3) is None
    (tmp_path / room.FILE_NAME).write_bytes(b"rubbish")
    assert room.opened(tmp_path, 2, 3) is None


@pytest.mark.parametrize(
    ("text", "weights"),
    [("image=0.7,caption=0.3", WEIGHTS), (" caption = 2 , image=1", {"image": 1, "caption": 2}), ("image=1", None),
     ("image=1,caption=0", None)],
)
def test_weights(text, weights):
    assert room.parse_weights(text) == weights
    assert weights is None or room.parse_weights(room.in_words(weights)) == weights


@pytest.mark.parametrize(
    ("text", "said"),
    [("text=1", "'text=1' fuses nothing"), ("image", "weight of image is ''"), ("image=nan", "0 or more"),
     ("image=1,caption=-1", "weight of caption is -1"), ("caption=1", "The weight of image has to be positive"),
     ("", "fuses nothing")],
)
def test_weights_refused(text, said):
    with pytest.raises(QueryError, match=said):
        room.parse_weights(text)
