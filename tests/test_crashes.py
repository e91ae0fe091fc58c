"""The crash rule: after a kill at any instant, a collection opens at its last committed state,
and the next run goes on from there.

This file is also a program: it indexes a folder over and over, and kills itself before the 1st,
2nd, 3rd ... thing that it does to the disk, until a run comes through.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import faiss  # noqa: F401  loaded before the forks, which would each have to do it
import numpy as np
import pytest
from PIL import Image

from retrieval import maintain
from retrieval.catalog import Catalog
from retrieval.collection import Collection
from retrieval.compact import compact, forget
from retrieval.errors import CollectionNotFoundError
from retrieval.images import open_image
from retrieval.maintain import Options, index_sources
from retrieval.manifest import Manifest

BATCH = 2
NAMES = [f"{letter}.png" for letter in "abcde"]
FORGOTTEN = ["b.png", "d.png"]
DISK_CALLS = ("fsync", "replace", "rename", "mkdir", "rmdir", "unlink")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")


class Mosaic:
    """A quick encoder of pictures: their colours on a grid of 2 x 2."""

    dim = 12

    def __init__(self, version=1):
        self.name, self.fingerprint, self.version = f"mosaic-{version}", f"mosaic-{version}", version
        self.encoded = 0

    def prepare(self, image):
        return np.asarray(image.resize((2, 2)), np.float32).ravel() + 50 * self.version  # (12,)

    def encode_prepared(self, prepared):
        self.encoded += len(prepared)
        rows = np.stack(prepared)  # (n, 12)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_texts(self, texts):
        """Their lengths tell them apart."""
        rows = np.ones((len(texts), 12), np.float32)
        rows[range(len(texts)), [len(text) % 12 for text in texts]] = 9
        self.encoded += len(texts)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_images(self, images):
        return self.encode_prepared([self.prepare(image) for image in images])


def index(folder, path, encoder, captions=None, **options):
    maintain.load_encoder = maintain.load_recorded_encoder = lambda *_, **__: encoder
    return index_sources([folder], path, Options(batch_size=BATCH, captions=captions), **options)


def describe(path):
    """In the layout of schema 2: captions of one letter, two letters ..., the first one of two images."""
    with Catalog.open(path, writable=True) as catalog:
        catalog._db.executescript("DROP TABLE captions; DROP TABLE texts; ALTER TABLE documents ADD COLUMN captions;")
        for number, name in enumerate(NAMES):
            captions = json.dumps(["a" * max(1, number)])
            catalog._db.execute("UPDATE documents SET captions = ? WHERE id = ?", (captions, name))
    replace(Manifest.load(path), schema_version=2).save(path)


def kill_before_step(number):
    """Steps are the calls that touch the disk, and the start and end of every transaction."""
    steps = 0

    def counted(call):
        def step(*args, **options):
            nonlocal steps
            steps += 1
            if steps == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return step

    for name in DISK_CALLS:
        setattr(os, name, counted(getattr(os, name)))
    for method in ("commit", "commit_texts", "forget", "renumber"):
        write = getattr(Catalog, method)
        after = counted(lambda: None)
        setattr(Catalog, method, lambda *args, write=counted(write), after=after: (write(*args), after()))


def main(folder, place, what):
    if what != "index":
        old = Path(place).with_name("old.collection")
        index(folder, old, Mosaic())
        if what == "captions":
            describe(old)
        if what == "compact":
            forget(old, [folder / name for name in FORGOTTEN])
        if what == "move":
            for name in NAMES[1:]:  # the first one stays: an emptied folder drops nothing
                (folder / name).rename(folder / f"{name[0]}{name}")
    for number in range(1, 1000):
        path = Path(place, str(number), "x.collection")
        path.parent.mkdir()
        if what != "index":
            shutil.copytree(old, path)
        child = os.fork()
        if child == 0:
            kill_before_step(number)
            if what == "compact":
                compact(path)
            else:
                index(folder, path, Mosaic(2 if what == "rebuild" else 1), rebuild=what == "rebuild",
                      captions=True if what == "captions" else None)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(random.integers(0, 256, (2, 2, 3), np.uint8)).save(folder / name)
    return folder


@pytest.fixture(autouse=True)
def loaders_put_back(monkeypatch):
    for name in ("load_encoder", "load_recorded_encoder"):
        monkeypatch.setattr(maintain, name, getattr(maintain, name))


def killed(folder, place, what="index"):
    """The collections of runs that were killed before their 1st, 2nd, ... step; the last was not."""
    place.mkdir()
    # Run as a script, this file would have tests/retrieval in front of the package.
    start = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    arguments = [__file__, str(folder), str(place), what]
    subprocess.run([sys.executable, "-c", start, *arguments], check=True)
    numbers = sorted(int(one.name) for one in place.iterdir())
    return [place / str(number) / "x.collection" for number in numbers]


def assert_holds(path, folder, names, encoder):
    """These documents with the encoder's own vectors, and a search that finds each of them."""
    expected = encoder.encode_images([open_image(folder / name)[0] for name in names]) if names else []
    with Collection.open(path, encoder=encoder) as collection:
        found = collection.catalog.indexed()
        assert [id for id, _ in found] == names
        if not names:
            return
        stored = collection.vectors.take(np.array([row for _, row in found]))
        np.testing.assert_allclose(stored, expected, atol=2**-11)  # float16
        hits = collection.search_vectors(names, expected, len(names))
    assert [(hit.query, hit.id) for hit in hits if hit.rank == 1] == list(zip(names, names))
    assert sorted(hit.id for hit in hits) == sorted(names * len(names))


def test_a_kill_at_any_instant_of_a_first_run(folder, tmp_path):
    paths = killed(folder, tmp_path / "runs")
    left = []
    for path in paths:
        try:
            with Collection.open(path) as collection:
                left.append(len(collection))
        except CollectionNotFoundError:  # killed before there was one
            assert not path.exists()
            left.append(None)
        else:
            assert_holds(path, folder, NAMES[: left[-1]], Mosaic())
        encoder = Mosaic()
        report = index(folder, path, encoder)
        committed = left[-1] or 0
        assert (report.images, encoder.encoded, report.unchanged) == (5, 5 - committed, committed)
        assert_holds(path, folder, NAMES, Mosaic())
        assert os.listdir(path.parent) == [path.name]
    assert list(dict.fromkeys(left)) == [None, 0, 2, 4, 5]
    assert left == sorted(left, key=lambda count: -1 if count is None else count)


def test_a_kill_at_any_instant_of_a_rebuild(folder, tmp_path):
    old, new = Mosaic(1), Mosaic(2)
    outcomes = []
    for path in killed(folder, tmp_path / "runs", "rebuild"):
        if path.exists():
            with Collection.open(path) as collection:
                outcomes.append(collection.manifest.encoder.name)
        else:  # between the two renames that swap the folders; the next run puts the old one back
            outcomes.append("none")
            assert index(folder, path, old).unchanged == 5
        assert_holds(path, folder, NAMES, new if outcomes[-1] == new.name else old)
        index(folder, path, new, rebuild=True)
        assert_holds(path, folder, NAMES, new)
        assert os.listdir(path.parent) == [path.name]
    assert list(dict.fromkeys(outcomes)) == [old.name, "none", new.name]
    assert outcomes.count("none") == 1


def test_a_kill_at_any_instant_of_compacting(folder, tmp_path):
    left = [name for name in NAMES if name not in FORGOTTEN]
    rewrites = []
    for path in killed(folder, tmp_path / "runs", "compact"):
        with Collection.open(path) as collection:
            rewrites.append(collection.catalog.rewrites)
            assert collection.catalog.vector_rows == (3 if rewrites[-1] else 5)
        assert_holds(path, folder, left, Mosaic())
        report = compact(path)
        assert (report.rows, report.dropped_rows) == (3, 0 if rewrites[-1] else 2)
        assert_holds(path, folder, left, Mosaic())
        assert sorted(os.listdir(path)) == [
            "catalog.sqlite", "manifest.json", "vectors-1", "writer.lock"]
        encoder = Mosaic()
        report = index(folder, path, encoder)
        assert (report.images, encoder.encoded) == (5, 2)
        assert_holds(path, folder, [*left, *FORGOTTEN], Mosaic())
    assert list(dict.fromkeys(rewrites)) == [0, 1] and min(map(rewrites.count, rewrites)) > 3


def test_a_kill_at_any_instant_of_following_moved_files(folder, tmp_path):
    """No document is ever missing, and none is embedded again."""
    folder = shutil.copytree(folder, tmp_path / "pictures")
    moved = [name if name == NAMES[0] else name[0] + name for name in NAMES]
    left = []
    for path in killed(folder, tmp_path / "runs", "move"):
        with Collection.open(path) as collection:
            ids = [id for id, _ in collection.catalog.indexed()]
        left.append(sum(id in moved for id in ids))
        assert ids == [*moved[: left[-1]], *NAMES[left[-1] :]]
        encoder = Mosaic()
        report = index(folder, path, encoder)
        assert (encoder.encoded, report.moved, report.dropped) == (0, 5 - left[-1], 0)
        assert_holds(path, folder, moved, Mosaic())
    assert list(dict.fromkeys(left)) == [1, 3, 5]


def test_a_kill_at_any_instant_of_embedding_captions(folder, tmp_path):
    """In a collection of schema 2. The images are found throughout, and no text is embedded twice."""
    texts = ["a", "aa", "aaa", "aaaa"]
    left = []
    for path in killed(folder, tmp_path / "runs", "captions"):
        assert_holds(path, folder, NAMES, Mosaic())
        with Collection.open(path) as collection:
            stored, _ = collection.catalog.captions.counts()
            left.append(len(collection.catalog.captions.live_rows()))
            assert (stored, collection.catalog.vector_rows) == (5, 5 + left[-1])
            remembered = collection.manifest.captions is not None
        assert remembered or not left[-1]
        encoder = Mosaic()
        report = index(folder, path, encoder, captions=None if remembered else True)
        assert (report.images, report.captions, report.texts, encoder.encoded) == (5, 5, 4 - left[-1], 4 - left[-1])
        assert_holds(path, folder, NAMES, Mosaic())
        with Collection.open(path, encoder=encoder) as collection:
            hits = collection.search_vectors(texts, encoder.encode_texts(texts), 2, within="captions")
        assert [(hit.caption, hit.id) for hit in hits[:2]] == [("a", "a.png"), ("a", "b.png")]
        assert [(hit.caption, hit.id) for hit in hits[2::2]] == list(zip(texts[1:], NAMES[2:]))
    assert list(dict.fromkeys(left)) == [0, 2, 4]


def test_a_killed_run_with_a_real_encoder(photo_folder, tmp_path, tiny_encoder):
    """Killed after its second batch; what the next run makes of it equals a run in one go."""
    path = tmp_path / "photos.collection"
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from retrieval.maintain import Options, Watcher, index_sources
        batches = []
        def on_batch(count):
            batches.append(count)
            if len(batches) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        folder, path, model = sys.argv[1:]
        index_sources([Path(folder)], Path(path), Options(model, "cpu", "float32", 2),
                      watcher=Watcher(on_batch=on_batch))
    """
    command = [sys.executable, "-c", script, str(photo_folder), str(path), tiny_encoder.name]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    with Collection.open(path, encoder=tiny_encoder) as collection:
        committed = [id for id, _ in collection.catalog.indexed()]
        assert committed == ["2019/beach/china.jpg", "astronaut.png", "chelsea.png", "coffee.png"]
        hits = collection.search("a cup of coffee")
        assert sorted(hit.id for hit in hits) == committed

    options = Options(tiny_encoder.name, "cpu", "float32", 2)
    report = index_sources([photo_folder], path, options)
    assert (report.images, report.encoded, report.unchanged) == (6, 2, 4)
    at_once = tmp_path / "at once.collection"
    index_sources([photo_folder], at_once, options)
    rows = []
    for one in (path, at_once):
        with Collection.open(one) as collection:
            rows.append((collection.catalog.indexed(), collection.vectors[:].astype(np.float32)))
    assert rows[0][0] == rows[1][0]
    np.testing.assert_allclose(rows[0][1], rows[1][1], atol=2**-11)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
