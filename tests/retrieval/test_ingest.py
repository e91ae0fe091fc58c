import hashlib
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval import reading
from retrieval.catalog import Catalog
from retrieval.corpus.folder import scan
from retrieval.corpus.found import FoundImage, Scan
from retrieval.decoding import Workers
from retrieval.documents import FileState
from retrieval.errors import EncoderError
from retrieval.images import open_image
from retrieval.ingest import change_captions, encode_files, plan
from retrieval.reading import EncoderOnDemand
from retrieval.vectors import VectorStore


class Counting:
    """An encoder that notes what it is asked for; `fail_at` makes its n-th batch fail."""

    def __init__(self, encoder, fail_at=None):
        self.name, self.dim, self.fingerprint = encoder.name, encoder.dim, encoder.fingerprint
        self.encoder, self.fail_at = encoder, fail_at
        self.prepared, self.batches, self.ahead = 0, [], []
        self._lock = threading.Lock()

    def prepare(self, image):
        with self._lock:
            self.prepared += 1
        return self.encoder.prepare(image)

    def encode_prepared(self, prepared):
        self.ahead.append(self.prepared - sum(self.batches) - len(prepared))
        if len(self.batches) + 1 == self.fail_at:
            raise EncoderError("out of memory")
        self.batches.append(len(prepared))
        return self.encoder.encode_prepared(prepared)


class Shelf:
    """A catalogue and the vectors beside it, opened anew for every run as a process would."""

    def __init__(self, path):
        self.path = path
        Catalog.create(path).close()

    def open(self):
        catalog = Catalog.open(self.path, writable=True)
        return catalog, VectorStore(self.path / "vectors", 32, catalog.vector_rows)

    def encode(self, files, encoder, **options):
        catalog, store = self.open()
        with catalog:
            return encode_files(files, EncoderOnDemand(encoder), catalog, store, **options)

    def vectors(self):
        """id -> vector, as committed."""
        catalog, store = self.open()
        with catalog:
            ids, rows = zip(*catalog.indexed())
            return dict(zip(ids, store.take(np.array(rows))))

    def read(self, ask):
        with self.open()[0] as catalog:
            return ask(catalog)


@pytest.fixture
def shelf(tmp_path):
    (tmp_path / "shelf").mkdir()
    return Shelf(tmp_path / "shelf")


def assert_encoded(found, files, encoder):
    """`found` holds these files' own vectors: cosine above 0.9999 to the encoder's output."""
    pictures = [open_image(file)[0] for file in files.values()]
    expected = dict(zip(files, encoder.encode_images(pictures), strict=True))
    assert found.keys() == expected.keys()
    assert {id: bool(found[id] @ expected[id] > 0.9999) for id in found} == dict.fromkeys(found, True)


def by_relative_path(folder):
    return {file.relative: folder / file.relative for file in scan([folder]).images}


class TestPlan:
    ROOT = "/photos"

    def scanned(self, *names, roots=(ROOT,), size=1, mtime=1):
        files = [FoundImage(FileState(f"{self.ROOT}/{name}", size, mtime), Path(self.ROOT), name) for name in names]
        return Scan(files, [], list(roots))

    def known(self, *paths):
        return {path: FileState(path, 1, 1) for path in paths}

    def test_everything_is_new_at_first(self):
        result = plan(self.scanned("a.jpg", "b.jpg"), {})
        assert [file.relative for file in result.to_read] == ["a.jpg", "b.jpg"]
        assert (result.unchanged, result.gone) == (0, [])

    @pytest.mark.parametrize("change", [{"size": 2}, {"mtime": 2}, {"mtime": 0}], ids=str)
    def test_size_and_time_tell_a_change(self, change):
        result = plan(self.scanned("a.jpg", **change), self.known("/photos/a.jpg"))
        assert [file.relative for file in result.to_read] == ["a.jpg"]

    def test_unchanged_new_and_gone(self):
        result = plan(self.scanned("a.jpg", "c.jpg"), self.known("/photos/a.jpg", "/photos/sub/b.jpg"))
        assert [file.relative for file in result.to_read] == ["c.jpg"]
        assert (result.unchanged, result.gone) == (1, ["/photos/sub/b.jpg"])

    def test_only_what_lies_below_the_roots_can_be_gone(self):
        known = self.known("/photos/b.jpg", "/photos2/b.jpg", "/other/b.jpg", "/photos.jpg")
        assert plan(self.scanned("a.jpg"), known).gone == ["/photos/b.jpg"]

    def test_a_single_file_as_root_says_nothing_of_its_neighbours(self):
        known = self.known("/photos/a.jpg", "/photos/b.jpg")
        result = plan(self.scanned("a.jpg", roots=("/photos/a.jpg",)), known)
        assert (result.to_read, result.unchanged, result.gone) == ([], 1, [])

    def test_what_could_not_be_looked_at_is_not_gone(self):
        known = self.known("/photos/a.jpg", "/photos/x/b.jpg", "/photos/x.jpg")
        unseen = [("/photos/a.jpg", "cannot be read: Permission denied"), ("/photos/x", "cannot be read")]
        assert plan(Scan([], unseen, ["/photos"]), known).gone == ["/photos/x.jpg"]

    def test_members_of_archives_in_a_folder_are_not_its_to_drop(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("x.jpg", "")
        (tmp_path / "named").touch()
        held = [str(tmp_path / name) for name in ("a.zip#x.jpg", "a.zip#gone.jpg", "b.zip#x.jpg", "named", "gone")]
        planned = plan(Scan([], [], [str(tmp_path)]), self.known(*held))
        assert planned.gone == [held[1], held[2], held[4]]
        assert plan(Scan([], [], [str(tmp_path / "a.zip")]), self.known(*held)).gone == held[:2]

    def test_below_the_root_of_the_file_system(self):
        assert plan(self.scanned("a.jpg", roots=("/",)), self.known("/x/b.jpg")).gone == ["/x/b.jpg"]


class TestEncoding:
    @pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
    def test_vectors_are_the_encoders_in_file_order(self, shelf, photo_folder, tiny_encoder, batch_size):
        files = scan([photo_folder]).images
        encoder, told = Counting(tiny_encoder), []
        shelf.encode(files, encoder, batch_size=batch_size, progress=told.append)
        sizes = [min(batch_size, 6 - start) for start in range(0, 6, batch_size)]
        assert encoder.batches == sizes == told
        assert shelf.read(Catalog.indexed) == [(file.relative, row) for row, file in enumerate(files)]
        assert_encoded(shelf.vectors(), by_relative_path(photo_folder), tiny_encoder)

    def test_batches_are_as_large_as_the_encoder_likes(self, shelf, photo_folder, tiny_encoder):
        encoder = Counting(tiny_encoder)
        encoder.batch_size = 4
        shelf.encode(scan([photo_folder]).images, encoder)
        assert encoder.batches == [4, 2]

    def test_what_the_catalogue_learns(self, shelf, photo_folder, tiny_encoder):
        shelf.encode(scan([photo_folder]).images, tiny_encoder)
        rocket = photo_folder / "rocket.jpg"
        sql = "SELECT content_hash, width, height, size, mtime_ns FROM documents WHERE id = 'rocket.jpg'"
        with shelf.open()[0] as catalog:
            [(content_hash, width, height, size, mtime_ns)] = catalog._select(sql)
        assert content_hash == hashlib.blake2b(rocket.read_bytes(), digest_size=16).hexdigest()
        assert (width, height) == open_image(rocket)[0].size
        assert (size, mtime_ns) == (rocket.stat().st_size, rocket.stat().st_mtime_ns)

    def test_files_that_cannot_be_read_are_committed_with_the_reason(self, shelf, photo_folder, tiny_encoder):
        (photo_folder / "b.jpg").write_text("no picture")
        (photo_folder / "m.png").touch()
        files = scan([photo_folder]).images
        (photo_folder / "coffee.png").unlink()  # after the scan
        encoder = Counting(tiny_encoder)
        shelf.encode(files, encoder, batch_size=2)
        assert shelf.read(Catalog.failed) == [
            (str(photo_folder / "b.jpg"), "not an image in a format that can be read"),
            (str(photo_folder / "coffee.png"), "cannot be read: No such file or directory"),
            (str(photo_folder / "m.png"), "the file is empty"),
        ]
        readable = by_relative_path(photo_folder)
        del readable["b.jpg"], readable["m.png"]
        assert_encoded(shelf.vectors(), readable, tiny_encoder)

    def test_a_batch_without_a_readable_file(self, shelf, tmp_path, tiny_encoder):
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).touch()
        encoder = Counting(tiny_encoder)
        shelf.encode(scan([tmp_path / "a.jpg", tmp_path / "b.jpg"]).images, encoder)
        assert (encoder.batches, shelf.read(lambda catalog: catalog.vector_rows)) == ([], 0)
        assert shelf.read(lambda catalog: catalog.count("failed")) == 2

    def test_only_a_bounded_number_is_decoded_ahead(self, shelf, sample_photos, tiny_encoder):
        encoder = Counting(tiny_encoder)
        shelf.encode(scan(sample_photos).images, encoder, batch_size=2)
        assert sum(encoder.batches) == len(sample_photos) > 10
        assert max(encoder.ahead) <= 2 * 2

    def test_nothing_to_read(self, shelf, tiny_encoder):
        shelf.encode([], tiny_encoder)
        assert shelf.read(lambda catalog: (catalog.generation, catalog.vector_rows)) == (0, 0)


class TestIds:
    def test_where_roots_clash_more_of_the_path_comes_in_front(self, shelf, photo_folder, tmp_path, tiny_encoder):
        roots = [tmp_path / "holiday", tmp_path / "x" / "scans", tmp_path / "y" / "scans"]
        for root, photo in zip(roots, ("rocket.jpg", "coffee.png", "flower.jpg")):
            root.mkdir(parents=True)
            shutil.copyfile(photo_folder / photo, root / "IMG_1.jpg")
        shelf.encode(scan(roots).images, tiny_encoder)
        assert_encoded(shelf.vectors(), {
            "IMG_1.jpg": photo_folder / "rocket.jpg",
            "scans/IMG_1.jpg": photo_folder / "coffee.png",
            "y/scans/IMG_1.jpg": photo_folder / "flower.jpg",
        }, tiny_encoder)

    def test_a_file_keeps_its_id(self, shelf, photo_folder, tiny_encoder):
        shelf.encode(scan([photo_folder]).images, tiny_encoder)
        before = shelf.read(Catalog.ids_by_path)
        beach = photo_folder / "2019" / "beach"
        shutil.copyfile(photo_folder / "rocket.jpg", beach / "china.jpg")
        shelf.encode(scan([beach]).images, tiny_encoder)  # below another root now
        assert shelf.read(Catalog.ids_by_path) == before
        assert_encoded(shelf.vectors(), by_relative_path(photo_folder), tiny_encoder)


class TestBreakingOff:
    def test_a_failing_encoder_leaves_the_batches_before(self, shelf, photo_folder, tiny_encoder):
        files = scan([photo_folder]).images
        with pytest.raises(EncoderError, match="out of memory"):
            shelf.encode(files, Counting(tiny_encoder, fail_at=3), batch_size=2)
        assert shelf.read(Catalog.indexed) == [(file.relative, row) for row, file in enumerate(files[:4])]

    def test_vectors_without_a_commit_leave_no_trace(self, shelf, photo_folder, tiny_encoder, monkeypatch):
        files = scan([photo_folder]).images
        shelf.encode(files[:2], tiny_encoder)

        def no_space(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
            patched.setattr(Catalog, "commit", no_space)
            shelf.encode(files[2:5], tiny_encoder)
        catalog, store = shelf.open()
        catalog.close()
        assert np.load(shelf.path / "vectors" / "00000.npy").shape == (5, 32)  # they were written
        assert store.n == 2 and [id for id, _ in shelf.read(Catalog.indexed)] == [f.relative for f in files[:2]]

        shelf.encode(files[5:], tiny_encoder)  # other files take the rows
        shelf.encode(files[2:5], tiny_encoder)
        assert shelf.read(Catalog.indexed)[2] == (files[5].relative, 2)
        assert_encoded(shelf.vectors(), by_relative_path(photo_folder), tiny_encoder)

    def test_the_rest_of_a_failed_batch_is_not_read_to_the_end(self, shelf, sample_photos, tiny_encoder):
        encoder = Counting(tiny_encoder, fail_at=1)
        with pytest.raises(EncoderError):
            shelf.encode(scan(sample_photos).images, encoder, batch_size=1)
        assert encoder.prepared <= 1 + 2 * 1  # the batch, and two batches ahead


def captions_by_path(catalog):
    return catalog.captions.by_path()


class TestCaptions:
    """What a source says of its images is kept; a source that says nothing takes nothing away."""

    def _with(self, image, *captions):
        return replace(image, captions=captions)

    def test_are_committed_with_their_image(self, shelf, photo_folder, tiny_encoder):
        image = scan([photo_folder]).images[0]
        shelf.encode([self._with(image, "two dogs", "a ball")], tiny_encoder)
        assert shelf.read(captions_by_path) == {image.state.path: ("two dogs", "a ball")}

    def test_new_ones_of_a_known_image_are_changed_without_reading_it(self, shelf, photo_folder, tiny_encoder):
        image = scan([photo_folder]).images[0]
        shelf.encode([self._with(image, "two dogs")], tiny_encoder)
        known = shelf.read(Catalog.known_files), shelf.read(captions_by_path)
        changed = self._with(image, "three dogs")
        planned = plan(Scan([changed], [], []), known[0], captions=known[1])
        assert (planned.to_read, planned.to_caption, planned.unchanged) == ([], [changed], 1)
        same = Scan([self._with(image, "two dogs"), image], [], [])
        assert plan(same, known[0], captions=known[1]).to_caption == []
        again = plan(Scan([changed], [], []), known[0], [image.state.path], known[1])
        assert (again.to_read, again.to_caption) == ([changed], [])
        Path(image.state.path).unlink()
        shelf.read(lambda catalog: change_captions(planned.to_caption, catalog))
        assert shelf.read(captions_by_path) == {image.state.path: ("three dogs",)}
        assert shelf.read(Catalog.live_rows).tolist() == [0]

    def test_stay_when_the_source_says_nothing(self, shelf, photo_folder, tiny_encoder):
        image = scan([photo_folder]).images[0]
        shelf.encode([self._with(image, "two dogs")], tiny_encoder)
        shelf.encode([image], tiny_encoder)
        assert shelf.read(captions_by_path) == {image.state.path: ("two dogs",)}

    def test_stay_with_an_image_that_changes(self, shelf, photo_folder, tiny_encoder):
        one, other = scan([photo_folder]).images[:2]
        shelf.encode([self._with(one, "two dogs")], tiny_encoder)
        shutil.copy(other.state.path, one.state.path)
        assert shelf.encode(scan([photo_folder]).images[:1], tiny_encoder).encoded == 1
        assert shelf.read(captions_by_path) == {one.state.path: ("two dogs",)}

    def test_stay_with_an_image_that_cannot_be_read_for_a_while(self, shelf, photo_folder, tiny_encoder):
        image = scan([photo_folder]).images[0]
        shelf.encode([self._with(image, "two dogs")], tiny_encoder)
        path = Path(image.state.path)
        content = path.read_bytes()
        path.write_bytes(b"no image")
        shelf.encode(scan([photo_folder]).images[:1], tiny_encoder)
        assert shelf.read(Catalog.live_rows).tolist() == []
        path.write_bytes(content)
        shelf.encode(scan([photo_folder]).images[:1], tiny_encoder)
        assert shelf.read(Catalog.live_rows).tolist() == [1]
        assert shelf.read(captions_by_path) == {image.state.path: ("two dogs",)}


def test_what_ends_a_run_ends_the_processes_that_decode(shelf, photo_folder, tiny_encoder, monkeypatch):
    class Interrupted(Counting):
        pixels_of = tiny_encoder.pixels_of

        def encode_prepared(self, prepared):
            raise KeyboardInterrupt

    made = []
    monkeypatch.setattr(reading, "_processes_pay", lambda *_: True)
    monkeypatch.setattr(reading, "Workers", lambda work: made.append(Workers(work)) or made[-1])
    with pytest.raises(KeyboardInterrupt) as raised:
        shelf.encode(scan([photo_folder]).images, Interrupted(tiny_encoder), batch_size=2)
    assert raised.tb  # which holds on to all that was under way
    ((first, *others),) = (workers._started for workers in made)
    assert all(process.returncode is not None for process in (first, *others))
