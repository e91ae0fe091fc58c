"""Captions from the catalogue to search: embedded once, found with their images, kept through changes."""

import csv
import json
import sqlite3
import tarfile

import numpy as np
import pytest

from retrieval.captions import Captions
from retrieval.catalog import Catalog
from retrieval.catalog_file import FILE_NAME
from retrieval.collection import CAPTIONS, Collection
from retrieval.compact import compact, forget
from retrieval.documents import Takeover
from retrieval.errors import QueryError
from retrieval.evaluate.evaluation import score_directions
from retrieval.evaluate.subject import Captioning, find_subject
from retrieval.evaluate.task import make_task
from retrieval.maintain import Options, Watcher, index_sources
from retrieval.manifest import SCHEMA_VERSION, Manifest

pytestmark = pytest.mark.usefixtures("loaded_once")

SAID = {
    "chelsea.png": ("a cat", "an animal"),
    "coffee.png": ("a cup of coffee",),
    "rocket.jpg": ("a rocket at night", "a cat"),  # the same text as of another image
}
TEXTS = ["a cat", "an animal", "a cup of coffee", "a rocket at night"]


def say(path, captions):
    """Have a source say this of the images, by id."""
    with Catalog.open(path, writable=True) as catalog:
        files, ids = catalog.known_files(), catalog.ids_by_path()
        catalog.commit((), (), [
            Takeover(file, files[file], id, tuple(captions[id])) for file, id in ids.items() if id in captions
        ])


def in_schema_2(path):
    """Rewrite a collection, whose captions have no vectors, as an earlier version would have left it."""
    with Catalog.open(path) as catalog:
        said = catalog.captions.by_path()
    connection = sqlite3.connect(path / FILE_NAME)
    connection.executescript("DROP TABLE captions; DROP TABLE texts; ALTER TABLE documents ADD COLUMN captions TEXT;")
    for file, captions in said.items():
        connection.execute("UPDATE documents SET captions = ? WHERE path = ?", (json.dumps(captions), file))
    connection.commit()
    connection.close()
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["captions"]
    (path / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 2}))


@pytest.fixture
def options(tiny_encoder):
    def options(**more):
        return Options(tiny_encoder.name, "cpu", "float32", **more)

    return options


@pytest.fixture
def path(photo_folder, tmp_path, options):
    """Six photos, five captions of four texts for three of them, none embedded."""
    path = tmp_path / "photos.collection"
    index_sources([photo_folder], path, options())
    say(path, SAID)
    return path


@pytest.fixture
def embedded(path, photo_folder, options):
    index_sources([photo_folder], path, options(captions=True))
    return path


def found(path, encoder, query, k=None):
    with Collection.open(path, encoder=encoder) as collection:
        return [(hit.caption, hit.id) for hit in collection.search(query, k, within=CAPTIONS)]


def vectors(path):
    """text -> its vector as kept."""
    with Collection.open(path) as collection:
        rows = collection.catalog.captions.live_rows()
        said = collection.catalog.captions.of_rows(rows)
        return {said[row][0][2]: vector.tolist() for row, vector in zip(rows.tolist(), collection.vectors.take_halves(rows))}


def test_each_text_is_embedded_once_and_found_with_every_image_of_it(path, photo_folder, options, tiny_encoder):
    report = index_sources([photo_folder], path, options(captions=True))
    assert (report.images, report.encoded, report.captions, report.texts) == (6, 0, 5, 4)
    own = tiny_encoder.encode_texts(TEXTS)
    with Collection.open(path, encoder=tiny_encoder) as collection:
        assert collection.catalog.vector_rows == 6 + 4
        assert collection.catalog.captions.live_rows().tolist() == [6, 7, 8, 9]
        np.testing.assert_allclose(collection.vectors.take(np.arange(6, 10)), own, atol=2**-11)
        hits = collection.search("a cat", within=CAPTIONS)
    order = np.argsort(-(own @ own[0]), kind="stable")
    owners = {text: [id for id, said in SAID.items() if text in said] for text in TEXTS}
    expected = [(TEXTS[place], id) for place in order for id in owners[TEXTS[place]]]
    assert [(hit.caption, hit.id) for hit in hits] == expected
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert [hit.path for hit in hits] == [str(photo_folder / id) for _, id in expected]
    np.testing.assert_allclose([hit.score for hit in hits[:2]], 1, atol=5e-4)


def test_an_image_finds_captions_as_the_encoder_ranks_them(embedded, photo_folder, tiny_encoder):
    with Collection.open(embedded, encoder=tiny_encoder) as collection:
        photo = str(photo_folder / "coffee.png")
        hits = collection.search(photo, 5, within=CAPTIONS)
        row = dict(collection.catalog.indexed())["coffee.png"]
        scores = tiny_encoder.encode_texts(TEXTS) @ collection.vectors.take(np.array([row]))[0]
    best = [TEXTS[place] for place in np.argsort(-scores)]
    assert list(dict.fromkeys(hit.caption for hit in hits)) == best
    np.testing.assert_allclose(sorted({hit.score for hit in hits}), np.sort(scores), atol=1e-3)


def test_images_are_found_exactly_as_before(path, photo_folder, options, tiny_encoder):
    queries = ["a cat", str(photo_folder / "rocket.jpg")]
    with Collection.open(path, encoder=tiny_encoder) as collection:
        before = collection.search(queries)
    index_sources([photo_folder], path, options(captions=True))
    with Collection.open(path, encoder=tiny_encoder) as collection:
        assert collection.search(queries) == before
        assert len(collection) == 6 and {hit.caption for hit in before} == {None}


class TestRuns:
    def test_later_ones_go_on_until_told_otherwise(self, embedded, photo_folder, options, tiny_encoder):
        say(embedded, {"flower.jpg": ["a flower"]})
        report = index_sources([photo_folder], embedded, options())
        assert (report.captions, report.texts) == (6, 1)
        report = index_sources([photo_folder], embedded, options(captions=False))
        assert (report.captions, report.texts) == (0, 0)
        assert not (embedded / "captions.faiss").exists()
        assert index_sources([photo_folder], embedded, options()).captions == 0
        with Collection.open(embedded) as collection:
            assert collection.catalog.captions.counts() == (6, 0)
        assert compact(embedded).dropped_rows == 5
        assert index_sources([photo_folder], embedded, options(captions=True)).texts == 5

    def test_changed_captions_are_embedded_and_the_others_kept(self, embedded, photo_folder, options, tiny_encoder):
        before = vectors(embedded)
        say(embedded, {"chelsea.png": ["a tabby", "an animal"]})
        assert index_sources([photo_folder], embedded, options()).texts == 1
        after = vectors(embedded)
        assert after.keys() == {*TEXTS, "a tabby"}  # "a cat" is still said of the rocket
        assert {text: after[text] for text in TEXTS} == before
        assert found(embedded, tiny_encoder, "a tabby", 1) == [("a tabby", "chelsea.png")]

    def test_moved_files_keep_them(self, embedded, photo_folder, options, tiny_encoder):
        before = vectors(embedded)
        (photo_folder / "coffee.png").rename(photo_folder / "mug.png")
        report = index_sources([photo_folder], embedded, options())
        assert (report.moved, report.texts) == (1, 0)
        assert vectors(embedded) == before
        assert found(embedded, tiny_encoder, "a cup of coffee", 1) == [("a cup of coffee", "mug.png")]

    def test_forgetting_and_compacting(self, embedded, photo_folder, tiny_encoder):
        before = vectors(embedded)
        forget(embedded, [photo_folder / "chelsea.png", photo_folder / "astronaut.png"])
        left = {text: vector for text, vector in before.items() if text != "an animal"}
        assert vectors(embedded) == left
        assert sorted(found(embedded, tiny_encoder, "a cat")) == [
            ("a cat", "rocket.jpg"), ("a cup of coffee", "coffee.png"), ("a rocket at night", "rocket.jpg")]
        report = compact(embedded)
        assert (report.rows, report.dropped_rows) == (4 + 3, 3)
        assert vectors(embedded) == left
        assert found(embedded, tiny_encoder, "a cat", 1) == [("a cat", "rocket.jpg")]
        connection = sqlite3.connect(embedded / FILE_NAME)
        assert connection.execute("SELECT count(*) FROM texts").fetchall() == [(3,)]
        assert connection.execute("SELECT count(*) FROM captions").fetchall() == [(3,)]
        connection.close()

    def test_a_reader_finds_others_in_place_of_those_that_went(self, embedded, tiny_encoder):
        with Collection.open(embedded, encoder=tiny_encoder) as reader:
            before = [hit.caption for hit in reader.search("a cat", 4, within=CAPTIONS)]
            assert before[:2] == ["a cat", "a cat"]
            say(embedded, {"chelsea.png": ["an animal"], "rocket.jpg": ["a rocket at night"]})
            after = [hit.caption for hit in reader.search("a cat", 3, within=CAPTIONS)]
        assert sorted(after) == ["a cup of coffee", "a rocket at night", "an animal"]

    def test_a_stop_keeps_what_was_embedded(self, path, photo_folder, options):
        told = []
        report = index_sources([photo_folder], path, options(captions=True, batch_size=1), watcher=Watcher(
            lambda total: told.append(("of", total)), told.append, stop=lambda: len(told) > 1))
        assert told == [("of", 4), 1]
        assert (report.texts, report.interrupted) == (1, True)
        report = index_sources([photo_folder], path, options())
        assert (report.texts, report.captions, report.interrupted) == (3, 5, False)

    def test_a_rebuild_remembers(self, embedded, photo_folder, options):
        index_sources([photo_folder], embedded, options(), rebuild=True)
        assert Manifest.load(embedded).captions is not None

    def test_they_are_counted_once_per_commit(self, embedded, monkeypatch):
        asked, counts = [], Captions.counts
        monkeypatch.setattr(Captions, "counts", lambda self: asked.append(self) or counts(self))
        with Collection.open(embedded) as collection:
            assert [collection.checked_k(k, CAPTIONS) for k in (None, 5)] == [5, 5]
            assert len(asked) == 1
            say(embedded, {"chelsea.png": ["a cat"]})
            assert collection.checked_k(None, CAPTIONS) == 4

    def test_the_index_file_is_derived(self, embedded, tiny_encoder):
        before = found(embedded, tiny_encoder, "a cup")
        (embedded / "captions.faiss").write_bytes(b"no index")
        assert found(embedded, tiny_encoder, "a cup") == before


class TestRefusals:
    def test_not_embedded(self, path, tiny_encoder):
        with pytest.raises(QueryError) as caught:
            found(path, tiny_encoder, "a cat")
        assert str(caught.value) == (
            f"{path} holds no captions' vectors. Embed them: retrieval index SOURCE --with-captions -o {path}"
        )

    def test_none_there(self, path, photo_folder, options, tiny_encoder):
        say(path, dict.fromkeys(SAID, ()))
        assert index_sources([photo_folder], path, options(captions=True)).captions == 0
        with pytest.raises(QueryError, match="holds no captions yet. Index a source that has some"):
            found(path, tiny_encoder, "a cat")

    def test_k_too_large(self, embedded, tiny_encoder):
        with pytest.raises(QueryError, match="k is 6, but .* holds 5 captions; ask for at most 5."):
            found(embedded, tiny_encoder, "a cat", 6)

    def test_something_else(self, embedded, tiny_encoder):
        with Collection.open(embedded) as collection, pytest.raises(QueryError, match="nothing called 'words'"):
            collection.search("a cat", within="words")


class TestSchema2:
    """Catalogues that keep captions as JSON."""

    def test_is_read_as_it_is(self, path, tiny_encoder):
        in_schema_2(path)
        before = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
        with Collection.open(path, encoder=tiny_encoder, remember_queries=False) as collection:
            assert len(collection.search("a cat")) == 6
            captions = collection.catalog.captions
            assert captions.counts() == (5, 0) and captions.live_rows().tolist() == []
            assert {id: tuple(text for other, text in captions.by_id() if other == id) for id in SAID} == SAID
            assert [one.captions for _, one in collection.catalog.described(0, 6)] == [
                SAID.get(id, ()) for id, _ in collection.catalog.indexed()]
        assert {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()} == before
        with pytest.raises(QueryError, match="--with-captions"):
            found(path, tiny_encoder, "a cat")

    def test_is_brought_up_to_date_by_writing(self, path, photo_folder, options, tiny_encoder):
        in_schema_2(path)
        report = index_sources([photo_folder], path, options(captions=True))
        assert (report.encoded, report.unchanged, report.captions, report.texts) == (0, 6, 5, 4)
        assert Manifest.load(path).schema_version == SCHEMA_VERSION
        assert vectors(path).keys() == set(TEXTS)
        connection = sqlite3.connect(path / FILE_NAME)
        assert connection.execute("SELECT count(captions) FROM documents").fetchall() == [(0,)]
        connection.close()


def test_captions_of_an_image_that_cannot_be_read_are_kept_but_not_found(path, photo_folder, options, tiny_encoder):
    (photo_folder / "coffee.png").write_bytes(b"no image")
    index_sources([photo_folder], path, options())
    say(path, {"coffee.png": ["a cup of coffee"]})
    report = index_sources([photo_folder], path, options(captions=True))
    assert (report.captions, report.texts) == (4, 3)
    assert "coffee.png" not in {id for _, id in found(path, tiny_encoder, "a cup of coffee")}


def test_they_are_what_a_benchmark_asks_by_default(path):
    subject = find_subject(str(path), Captioning())
    assert [(one.image, one.text) for one in subject.captions.captions] == [
        (id, text) for id in sorted(SAID) for text in SAID[id]]
    assert subject.collection == path


def test_image_to_caption_on_flickr8k_is_what_evaluation_says(flickr8k, tmp_path, builtin_encoder, monkeypatch):
    """R@1 over 100 photos and their 500 captions."""
    from retrieval import maintain

    photos = tmp_path / "photos"
    photos.mkdir()
    with tarfile.open(flickr8k / "test.tar") as tar:
        for member in [one for one in tar if one.isfile()][:100]:
            (photos / member.name.rpartition("/")[2]).write_bytes(tar.extractfile(member).read())
    said = {}
    with open(flickr8k / "captions.tsv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            said.setdefault(row["image"], []).append(row["caption"])
    for loader in ("load_encoder", "load_recorded_encoder"):
        monkeypatch.setattr(maintain, loader, lambda *_, **__: builtin_encoder)
    path = tmp_path / "flickr8k.collection"
    index_sources([photos], path, Options("builtin", "cpu"))
    say(path, {photo.name: said[photo.name] for photo in photos.iterdir()})
    assert index_sources([photos], path, Options(captions=True)).captions == 500
    with Collection.open(path, encoder=builtin_encoder) as collection:
        ids = [id for id, _ in collection.catalog.indexed()]
        task = make_task(find_subject(str(path), Captioning()).captions, ids)
        rows = dict(collection.catalog.indexed())
        images = collection.vectors.take(np.array([rows[id] for id in ids]))
        captions = collection.catalog.captions
        rows = {said[0][2]: row for row, said in captions.of_rows(captions.live_rows()).items()}
        texts = collection.vectors.take(np.array([rows[caption.text] for caption in task.captions]))
        hits = collection.search([str(photos / id) for id in ids], 1, within=CAPTIONS)
    _, image_to_text = score_directions(task, texts, images)
    right = np.mean([hit.path == hit.query for hit in hits])
    assert right == pytest.approx(image_to_text.hit_rates[1], abs=0.01)  # one photo, by rounding
    assert right > 0.4  # by chance 0.01
