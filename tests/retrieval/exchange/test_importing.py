import logging
import os
import shutil

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from retrieval.collection import Collection
from retrieval.errors import NOTICE, ExchangeError, UnknownModelError
from retrieval.exchange import importing
from retrieval.images import ImageFacts
from retrieval.maintain import Options, index_sources


def contents(path):
    """(documents by row, vectors (n, d) float16 as kept)"""
    with Collection.open(path) as collection:
        rows = collection.catalog.described(0, len(collection.vectors))
        assert [row for row, _ in rows] == list(range(len(collection)))
        return [document for _, document in rows], collection.vectors[:]


def assert_nothing_left(path):
    assert not path.exists() and list(path.parent.glob(".*")) == []


def test_vectors_become_unit_and_documents_keep_what_is_known(write_part, random_vectors, bring_in, path):
    vectors = random_vectors(3)
    folder = write_part(0, vectors * np.array([[1], [7], [1e-6]], np.float32), {
        "image_path": ["/x/a.jpg", "/x/b.jpg", "/x/c.jpg"], "caption": ["ein Hund", None, "c"],
        "width": [4, 5, 6], "height": [1, 2, 3],
    })
    report = bring_in(folder)
    assert (report.images, report.at_hand, report.renamed, report.skipped) == (3, 0, 0, [])
    documents, kept = contents(path)
    np.testing.assert_array_equal(kept, vectors.astype(np.float16))
    assert [one.id for one in documents] == ["/x/a.jpg", "/x/b.jpg", "/x/c.jpg"]
    assert [one.captions for one in documents] == [("ein Hund",), (), ("c",)]
    assert [one.facts for one in documents] == [ImageFacts(4, 1), ImageFacts(5, 2), ImageFacts(6, 3)]


def test_searching_an_import(write_part, random_vectors, bring_in, path, tiny_encoder):
    query = tiny_encoder.encode_texts(["a dog"])
    vectors = np.concatenate([random_vectors(4), query])
    bring_in(write_part(0, vectors, {"url": [f"http://x/{row}.jpg" for row in range(5)]}))
    with Collection.open(path, encoder=tiny_encoder) as collection:
        best = collection.search("a dog", k=5)
        assert collection.manifest.encoder.fingerprint == tiny_encoder.fingerprint
        assert collection.manifest.counts == {"images": 5, "failed": 0}
    assert (best[0].id, best[0].path) == ("http://x/4.jpg", "http://x/4.jpg")
    assert best[0].score == pytest.approx(1, abs=1e-3)
    expected = np.argsort(-(vectors @ query[0]))
    assert [hit.id for hit in best] == [f"http://x/{row}.jpg" for row in expected]


def test_useless_vectors_are_named_and_skipped(write_part, random_vectors, bring_in, path):
    vectors = random_vectors(6)
    vectors[1], vectors[3, 5], vectors[4, 0] = 0, np.nan, np.inf
    report = bring_in(write_part(0, vectors, {"image_path": list("abcdef"), "caption": list("ABCDEF")}))
    assert report.images == 3
    assert [(name, reason.partition(" (")[0]) for name, reason in report.skipped] == [
        ("b", "its vector is all zeros"), ("d", "its vector is damaged"), ("e", "its vector is damaged"),
    ]
    documents, kept = contents(path)
    assert [(one.id, one.captions) for one in documents] == [("a", ("A",)), ("c", ("C",)), ("f", ("F",))]
    np.testing.assert_array_equal(kept, vectors[[0, 2, 5]].astype(np.float16))


def test_nothing_but_useless_vectors(write_part, bring_in, path):
    folder = write_part(0, np.zeros((2, 32), np.float16), {"image_path": ["a", "b"]})
    with pytest.raises(ExchangeError, match="None of the 2 vectors .* The first, a: its vector is all zeros"):
        bring_in(folder)
    assert_nothing_left(path)


def test_duplicates_are_told_apart(write_part, random_vectors, bring_in, path, photos):
    names = ["u", "u", "u#2", "u", photos[0], photos[0]]
    vectors = random_vectors(6)
    report = bring_in(write_part(0, vectors, {"image_path": names}), force=True)
    assert (report.images, report.renamed, report.at_hand) == (6, 4, 1)
    documents, kept = contents(path)
    wanted = ["u", "u#2", "u#2#2", "u#3", photos[0], f"{photos[0]}#2"]
    assert [one.id for one in documents] == [one.file.path for one in documents] == wanted
    np.testing.assert_array_equal(kept, vectors.astype(np.float16))


class TestWhoseVectors:
    def test_the_right_model_passes_silently(self, write_part, photos, photo_vectors, bring_in, caplog):
        caplog.set_level(NOTICE, "retrieval")
        report = bring_in(write_part(0, photo_vectors.astype(np.float16), {"image_path": photos}))
        assert (report.compared, report.at_hand) == (6, 6)
        assert report.cosine == pytest.approx(1, abs=1e-3)
        assert caplog.text == ""

    def test_another_model_is_refused(self, write_part, photos, random_vectors, bring_in, path, tiny_encoder):
        folder = write_part(0, random_vectors(6), {"image_path": photos})
        with pytest.raises(ExchangeError) as caught:
            bring_in(folder)
        assert f"do not look like {tiny_encoder.name}'s: cosine " in str(caught.value)
        assert "over 6 images" in str(caught.value) and "--force" in str(caught.value)
        assert_nothing_left(path)

    def test_other_weights_are_refused(self, write_part, photos, photo_vectors, bring_in, path, other_model):
        folder = write_part(0, photo_vectors, {"image_path": photos})
        with pytest.raises(ExchangeError, match="other weights"):
            bring_in(folder, model=str(other_model))
        assert_nothing_left(path)

    def test_force_takes_them_with_a_warning(self, write_part, photos, random_vectors, bring_in, caplog):
        report = bring_in(write_part(0, random_vectors(6), {"image_path": photos}), force=True)
        assert report.images == 6 and report.cosine < 0.98
        (record,) = caplog.records
        assert record.levelno == logging.WARNING and f"cosine {report.cosine:.2f}" in record.message

    def test_without_images_that_is_said(self, write_part, random_vectors, bring_in, tiny_encoder, caplog):
        caplog.set_level(NOTICE, "retrieval")
        report = bring_in(write_part(0, random_vectors(2), {"url": ["http://x/a", "http://x/b"]}))
        assert (report.compared, report.cosine) == (0, None)
        assert f"could not be checked that {tiny_encoder.name} made these vectors" in caplog.text

    def test_unreadable_and_turned_images_are_passed_over(self, tmp_path, write_part, random_vectors, photos,
                                                          photo_vectors, bring_in):
        (tmp_path / "bad.jpg").write_text("no image")
        exif = Image.Exif()
        exif[0x0112] = 6
        with Image.open(photos[0]) as image:
            image.convert("RGB").save(tmp_path / "turned.jpg", exif=exif)
        paths = [str(tmp_path / "bad.jpg"), str(tmp_path / "turned.jpg"), *photos]
        vectors = np.concatenate([random_vectors(2), photo_vectors])
        report = bring_in(write_part(0, vectors, {"image_path": paths}))
        assert (report.at_hand, report.compared) == (8, 6)

    def test_no_more_than_eight_are_encoded(self, tmp_path, write_part, photos, photo_vectors, bring_in):
        copies = [shutil.copyfile(photos[row % 6], tmp_path / f"{row}{os.path.splitext(photos[row % 6])[1]}")
                  for row in range(90)]  # more than are kept to choose from
        vectors = photo_vectors[np.arange(90) % 6]
        report = bring_in(write_part(0, vectors, {"image_path": [str(copy) for copy in copies]}))
        assert (report.at_hand, report.compared) == (90, 8)
        assert report.cosine == pytest.approx(1, abs=1e-3)


class TestIndexOnTop:
    def index(self, folder, path, tiny_encoder):
        return index_sources([folder], path, Options(None, "cpu", "float32"))

    def test_files_at_hand_are_not_encoded_again(self, write_part, photos, photo_vectors, photo_folder, bring_in,
                                                 path, tiny_encoder):
        paths = [*photos[:4], "http://x/a.jpg", str(photo_folder / "gone.jpg")]
        bring_in(write_part(0, photo_vectors, {"image_path": paths}))
        report = self.index(photo_folder, path, tiny_encoder)
        assert (report.unchanged, report.encoded, report.dropped, report.images) == (4, 2, 1, 7)
        with Collection.open(path) as collection:
            assert set(collection.catalog.ids_by_path()) == {*photos, "http://x/a.jpg"}

    def test_files_that_changed_since_rclip_saw_them_are(self, write_rclip, photos, photo_vectors, photo_folder,
                                                        bring_in, path, tiny_encoder):
        rows = [(name, os.stat(name).st_mtime - (name == photos[0]), os.stat(name).st_size, vector.tobytes(), None)
                for name, vector in zip(photos, photo_vectors)]
        assert bring_in(write_rclip(2, rows)).at_hand == 5
        report = self.index(photo_folder, path, tiny_encoder)
        assert (report.unchanged, report.encoded, report.dropped, report.images) == (5, 1, 0, 6)


class TestRefusals:
    @pytest.fixture
    def folder(self, write_part, random_vectors):
        return write_part(0, random_vectors(3), {"image_path": ["a", "b", "c"]})

    def test_wrong_dimension(self, write_part, random_vectors, bring_in, path, tiny_encoder):
        folder = write_part(0, random_vectors(3, dim=48), {"image_path": ["a", "b", "c"]})
        with pytest.raises(ExchangeError, match=f"holds 48-d vectors, but {tiny_encoder.name} makes 32-d ones"):
            bring_in(folder)
        assert_nothing_left(path)

    def test_unknown_model(self, folder, bring_in, path):
        with pytest.raises(UnknownModelError, match="VitB32"):
            bring_in(folder, model="VitB32")
        assert_nothing_left(path)

    @pytest.mark.parametrize(("model", "words"), [(None, "does not say which model"), ("auto", "a guess")])
    def test_no_model(self, folder, bring_in, path, model, words):
        with pytest.raises(ExchangeError, match=words):
            bring_in(folder, model=model)
        assert_nothing_left(path)

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_existing_target(self, folder, bring_in, path, kind):
        if kind == "file":
            path.write_text("mine")
        else:
            path.mkdir()
            (path / "mine.txt").write_text("mine")
        with pytest.raises(ExchangeError, match="is there already"):
            bring_in(folder)
        assert (path if kind == "file" else path / "mine.txt").read_text() == "mine"

    def test_an_empty_target_is_used(self, folder, bring_in, path):
        path.mkdir()
        assert bring_in(folder).images == 3

    def test_neither_folder_nor_database(self, bring_in, tmp_path, photos):
        with pytest.raises(ExchangeError, match="nowhere does not exist"):
            bring_in(tmp_path / "nowhere")
        with pytest.raises(ExchangeError, match="neither a folder"):
            bring_in(tmp_path / "photos" / "coffee.png")

    def test_another_run_at_work(self, folder, bring_in, path):
        place = path.with_name(f".{path.name}.new")
        place.mkdir()
        with FileLock(place / "writer.lock"), pytest.raises(ExchangeError, match="Another run is making"):
            bring_in(folder)
        assert place.exists()

    def test_leftovers_of_a_killed_run_go(self, folder, bring_in, path):
        place = path.with_name(f".{path.name}.new")
        (place / "vectors").mkdir(parents=True)
        (place / "vectors" / "00000.npy").write_text("half")
        (place / "catalog.sqlite").write_text("half")
        assert bring_in(folder).images == 3
        assert not place.exists()

    @pytest.mark.parametrize("step", ["commit", "append", "refresh_index"])
    def test_a_full_disk(self, folder, bring_in, path, monkeypatch, step):
        def full(*_, **__):
            raise OSError(28, "No space left on device")

        owner = {"commit": importing.Catalog, "append": importing.VectorStore,
                 "refresh_index": importing.StoredCollection}[step]
        monkeypatch.setattr(owner, step, full)
        with pytest.raises(ExchangeError, match="cannot be written: No space left on device. Nothing was kept"):
            bring_in(folder)
        assert_nothing_left(path)
