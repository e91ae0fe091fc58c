"""`watch` over real folders, in a thread; waiting is for conditions, never for a time."""

import shutil
import sys
import tarfile
import threading

import pytest

from retrieval import maintain
from retrieval.collection import Collection
from retrieval.corpus.tables import TableOptions
from retrieval.errors import CollectionError, CorpusError
from retrieval.maintain import Options
from retrieval.watch import _changes, _matters, _present, watch
from retrieval.writing import only_writer

pytest.importorskip("watchfiles")
pytestmark = pytest.mark.usefixtures("loaded_once")

PATIENCE = 60  # seconds before a wait is given up


class Watch:
    """A watch in a thread, and what it told."""

    def __init__(self, folders, path, options, **more):
        self.stop, self.told, self.news = threading.Event(), [], threading.Condition()
        self.error = None

        def run():
            try:
                watch(folders, path, options, stop=self.stop, on_update=self.tell, on_error=self.tell, **more)
            except Exception as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def tell(self, one):
        with self.news:
            self.told.append(one)
            self.news.notify_all()

    def wait(self, condition):
        """Until the newest thing told fulfils the condition."""
        with self.news:
            assert self.news.wait_for(lambda: self.told and condition(self.told[-1]), PATIENCE), self.error or self.told

    def end(self):
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "photos.collection"


@pytest.fixture
def started(photo_folder, path, tiny_encoder, monkeypatch):
    """A watch after its first update; the quick retry is for the tests' sake."""
    monkeypatch.setattr("retrieval.watch.RETRY_SECONDS", 0.1)
    watching = Watch([photo_folder], path, Options(tiny_encoder.name, "cpu", "float32"))
    try:
        watching.wait(lambda report: report.images == 6)
        yield watching
    finally:
        watching.end()


def images(path):
    with Collection.open(path) as collection:
        return sorted(id for id, _ in collection.catalog.indexed())


def is_report(told):
    return not isinstance(told, str)


def test_files_come_move_and_go(started, photo_folder, path, monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("the encoder was loaded again")

    monkeypatch.setattr(maintain, "load_encoder", forbidden)
    monkeypatch.setattr(maintain, "load_recorded_encoder", forbidden)
    shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "2019" / "new.jpg")
    started.wait(lambda report: report.images == 7)
    (photo_folder / "rocket.jpg").rename(photo_folder / "moon.jpg")
    started.wait(lambda report: report.moved == 1)
    shutil.rmtree(photo_folder / "2019")
    started.wait(lambda report: report.images == 5)
    assert images(path) == ["astronaut.png", "chelsea.png", "coffee.png", "flower.jpg", "moon.jpg"]


def test_a_folder_that_goes_and_comes_back(started, photo_folder, path):
    photo_folder.rename(photo_folder.with_name("away"))
    started.wait(lambda told: isinstance(told, str) and "does not exist" in told)
    (photo_folder.with_name("away") / "rocket.jpg").unlink()
    photo_folder.with_name("away").rename(photo_folder)
    started.wait(lambda told: is_report(told) and told.images == 5)
    (photo_folder / "flower.jpg").unlink()
    started.wait(lambda told: is_report(told) and told.images == 4)
    assert len([one for one in started.told if isinstance(one, str)]) == 1  # said once


def test_a_folder_that_goes_before_watching_begins(photo_folder, path, monkeypatch):
    away, answers = photo_folder.with_name("away"), []

    def goes_after_the_first_answer(places):
        answers.append(_present(places))
        if len(answers) == 1:
            photo_folder.rename(away)
        return answers[-1]

    monkeypatch.setattr("retrieval.watch._present", goes_after_the_first_answer)
    changes = _changes([photo_folder], path, threading.Event())
    assert next(changes)  # no watch could begin: nothing is known
    assert answers == [{photo_folder: away.stat().st_ino}]
    assert [next(changes), next(changes)] == [True, False]  # it is away, and stays away
    away.rename(photo_folder)
    assert next(changes)  # what happened to it meanwhile was not seen


def test_a_place_below_a_file_is_not_there(photo_folder):
    assert _present([photo_folder / "rocket.jpg" / "x", photo_folder / "no", photo_folder]) == {
        photo_folder: photo_folder.stat().st_ino
    }


def test_others_may_write_in_between(started, photo_folder, path):
    with only_writer(path):
        (photo_folder / "flower.jpg").unlink()
        started.wait(lambda told: isinstance(told, str) and "is writing to" in told)
    started.wait(lambda told: is_report(told) and told.images == 5)


def test_a_first_update_that_fails_is_an_error(tmp_path, path):
    (tmp_path / "empty").mkdir()
    watching = Watch([tmp_path / "empty"], path, Options())
    watching.thread.join(PATIENCE)
    assert isinstance(watching.error, CorpusError) and "No images in" in str(watching.error)


def test_an_archive_that_is_written_anew(photo_folder, path, tmp_path, tiny_encoder):
    def pack(*names):
        with tarfile.open(tmp_path / "new.tar", "w") as archive:
            for name in names:
                archive.add(photo_folder / name, name)
        (tmp_path / "new.tar").rename(tmp_path / "photos.tar")

    pack("rocket.jpg", "coffee.png")
    watching = Watch([tmp_path / "photos.tar"], path, Options(tiny_encoder.name, "cpu", "float32"))
    try:
        watching.wait(lambda report: report.images == 2)
        pack("rocket.jpg")
        watching.wait(lambda report: is_report(report) and report.images == 1)
    finally:
        watching.end()
    assert images(path) == ["rocket.jpg"]


def test_a_table_with_columns_of_its_own_and_captions(photo_folder, path, tmp_path, tiny_encoder):
    table = tmp_path / "products.csv"
    table.write_text("shot,says\nrocket.jpg,a rocket\n")
    watching = Watch(
        [table], path, Options(tiny_encoder.name, "cpu", "float32", captions=True),
        tables=TableOptions(photo_folder, "shot", "says"),
    )
    try:
        watching.wait(lambda report: (report.images, report.captions) == (1, 1))
        table.write_text("shot,says\nrocket.jpg,a rocket\ncoffee.png,a cup\n")
        watching.wait(lambda report: is_report(report) and (report.images, report.captions) == (2, 2))
    finally:
        watching.end()


def test_only_the_first_update_tries_again_what_failed(photo_folder, path, tiny_encoder, monkeypatch):
    tried = []

    def noted(sources, path, options, **how):
        tried.append(options.retry_failed)
        return maintain.index_sources(sources, path, options, **how)

    monkeypatch.setattr("retrieval.watch.index_sources", noted)
    watching = Watch([photo_folder], path, Options(tiny_encoder.name, "cpu", "float32", retry_failed=True))
    try:
        watching.wait(lambda report: report.images == 6)
        (photo_folder / "flower.jpg").unlink()
        watching.wait(lambda report: is_report(report) and report.images == 5)
    finally:
        watching.end()
    assert tried[0] and not any(tried[1:]) and len(tried) > 1


@pytest.mark.parametrize("source", ["-", "s3://bucket/x"])
def test_what_cannot_be_watched(path, source):
    with pytest.raises(CorpusError, match=f"^{source} cannot be watched: give folders or files of this machine"):
        watch([source], path, Options(), stop=threading.Event(), on_update=print, on_error=print)


def test_what_matters(tmp_path):
    collection = tmp_path / "photos.collection"
    (tmp_path / "notes.txt").touch()
    (tmp_path / "notes.pdf").touch()
    (tmp_path / "x.tar").touch()
    (tmp_path / "y.tar").touch()
    matters = _matters(collection, [tmp_path, tmp_path / "x.tar"])
    assert [name for name in (
        "a.jpg", "sub/b.PNG", "a folder that went", ".hidden.jpg", "notes.txt", "notes.pdf", "x.tar", "y.tar", "photos.collection",
        "photos.collection/index.faiss", ".photos.collection.rebuild",
    ) if matters(None, str(tmp_path / name))] == ["a.jpg", "sub/b.PNG", "a folder that went", "notes.txt", "x.tar"]


def test_without_the_package_its_extra_is_named(photo_folder, path, monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(CollectionError, match=r"pip install 'crossmodal-retrieval\[watch\]'"):
        watch([photo_folder], path, Options(), stop=threading.Event(), on_update=print, on_error=print)
    assert not path.exists()
