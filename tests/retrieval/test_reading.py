import os
import shutil
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval import reading
from retrieval.corpus import archives
from retrieval.corpus.folder import scan
from retrieval.corpus.found import FoundImage
from retrieval.decoding import Workers
from retrieval.documents import FileState
from retrieval.encoders import load_encoder
from retrieval.encoders.preprocess import as_tensor
from retrieval.reading import EncoderOnDemand, Rhythm


@pytest.fixture
def clock(monkeypatch):
    """clock[0] is the time, in seconds."""
    now = [0.0]
    monkeypatch.setattr(reading, "monotonic", lambda: now[0])
    return now


def never():
    return False


class TestRhythm:
    def test_the_first_batch_is_small_until_the_encoders_speed_is_known(self):
        rhythm, sizes = Rhythm(64), []
        for batch in rhythm.batches(range(200), never):
            sizes.append(len(batch))
            rhythm.encoded(len(batch), 0.001)
        assert sizes == [16, 64, 64, 56]

    def test_a_slow_encoder_gets_batches_of_five_seconds(self):
        rhythm, sizes = Rhythm(64), []
        for batch in rhythm.batches(range(40), never):
            sizes.append(len(batch))
            rhythm.encoded(len(batch), 0.5 * len(batch))  # two images a second
        assert sizes == [16, 10, 10, 4]

    @pytest.mark.parametrize(("seconds", "size"), [(100, 1), (1e-9, 8), (0, 8)])
    def test_a_batch_has_one_image_at_least_and_no_more_than_asked_for(self, seconds, size):
        rhythm = Rhythm(8)
        rhythm.encoded(2, seconds)
        assert rhythm.size == size

    def test_batches_of_known_content_teach_nothing(self):
        rhythm = Rhythm(64)
        rhythm.encoded(0, 3.0)
        assert rhythm.size == 16

    def test_slow_reading_ends_a_batch(self, clock):
        def read():
            for number in range(7):
                clock[0] += 2.0
                yield number

        assert list(Rhythm(64).batches(read(), never)) == [[0, 1, 2], [3, 4, 5], [6]]

    @pytest.mark.parametrize(("asked_at", "batches"), [(1, [[0]]), (3, [[0, 1], [2]]), (4, [[0, 1], [2, 3]])])
    def test_a_stop_ends_with_the_batch_in_hand(self, asked_at, batches):
        taken = []

        def items():
            for number in range(10):
                taken.append(number)
                yield number

        assert list(Rhythm(2).batches(items(), lambda: len(taken) >= asked_at)) == batches
        assert len(taken) == asked_at


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_decoding_gives_way_to_encoding(photo_folder, tiny_encoder, monkeypatch):
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    found, ours, read = [], niceness(), reading._read

    def noted(*arguments, **options):
        found.append(niceness())
        return read(*arguments, **options)

    monkeypatch.setattr(reading, "_read", noted)
    files = scan([photo_folder]).images
    list(reading.read_ahead(files, (), EncoderOnDemand(tiny_encoder), ahead=lambda: 2))
    assert found == [min(19, ours + 10)] * 6 and niceness() == ours


def test_an_encoder_is_loaded_once():
    encoder, loads = EncoderOnDemand(), []
    encoder.load = lambda: loads.append(1) or "an encoder"
    assert encoder.loaded is None
    assert (encoder(), encoder(), loads) == ("an encoder", "an encoder", [1])


def jpeg(path, image, orientation=None):
    exif = Image.Exif()
    if orientation:
        exif[0x0112], exif[0x010F] = orientation, "Camera"
        exif.get_ifd(0x8769)[0x9003] = "2019:07:14 12:30:00"
    image.save(path, "JPEG", exif=exif)


@pytest.fixture
def many_kinds(photo_folder):
    """Of a folder and an archive: large and small JPEGs, turned, damaged, with alpha, an odd name, a missing one."""
    (photo_folder / "2020").mkdir()
    flower = Image.open(photo_folder / "flower.jpg")
    for orientation in range(1, 9):
        jpeg(photo_folder / f"turned-{orientation}.jpg", flower.resize((90, 60)), orientation)
    jpeg(photo_folder / "large.jpg", flower.resize((2400, 1800)), 6)
    jpeg(photo_folder / "grey.jpg", flower.convert("L"))
    jpeg(photo_folder / "no.1 # of two.jpg", flower.resize((50, 80)))
    flower.resize((60, 40)).convert("RGBA").save(photo_folder / "alpha.png")
    (photo_folder / "empty.jpg").touch()
    (photo_folder / "cut.jpg").write_bytes((photo_folder / "flower.jpg").read_bytes()[:5000])
    (photo_folder / "words.jpg").write_text("no image")
    shutil.copyfile(photo_folder / "rocket.jpg", photo_folder / "2020" / "copy.jpg")
    with zipfile.ZipFile(photo_folder.parent / "some.zip", "w") as some:
        for name in ("coffee.png", "words.jpg", "turned-5.jpg"):
            some.write(photo_folder / name, name)
    gone = FoundImage(FileState(str(photo_folder / "gone.jpg"), 1, 1), photo_folder, "gone.jpg")
    return [*scan([photo_folder]).images, gone, *archives.scan(str(photo_folder.parent / "some.zip")).images]


class Watched(Workers):
    """Notes what was asked, and how many processes there were. at_answer is called before each."""

    made, at_answer = [], staticmethod(lambda workers: None)

    def __init__(self, work):
        super().__init__(work)
        self.asked, self.answered = [], []
        self.made.append(self)

    def ask(self, items):
        self.at_answer(self)
        answers = super().ask(items)
        self.asked += [Path(path).name for path, *_ in items]
        self.answered += [answer is not None for answer in answers]
        return answers


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(Watched, "made", [])
    monkeypatch.setattr(reading, "Workers", Watched)
    return Watched


def read(files, encoder, *, known=(), ahead=40, **options):
    return list(reading.read_ahead(files, known, EncoderOnDemand(encoder), ahead=lambda: ahead, **options))


def assert_same(found, expected, encoder):
    """To the bit, and laid out alike; also what the encoder makes of them."""
    assert [replace(one, pixels=None) for one in found] == [replace(one, pixels=None) for one in expected]
    pixels = [[one.pixels for one in read if one.pixels is not None] for read in (found, expected)]
    for one, other in zip(*pixels, strict=True):
        one = as_tensor(one) if isinstance(one, np.ndarray) else one
        assert torch.equal(one, other) and (one.dtype, one.stride()) == (other.dtype, other.stride())
    np.testing.assert_array_equal(*map(encoder.encode_prepared, pixels))


def test_processes_read_as_threads_do(many_kinds, tiny_encoder, watched):
    expected = read(many_kinds, tiny_encoder, processes=False)
    found = read(many_kinds, tiny_encoder, processes=True)
    assert_same(found, expected, tiny_encoder)
    assert [one.file for one in found] == many_kinds
    by_name = {one.file.relative: one for one in found}
    assert {name: one.error for name, one in by_name.items() if one.error and name != "cut.jpg"} == {
        "empty.jpg": "the file is empty",
        "gone.jpg": "cannot be read: No such file or directory",
        "words.jpg": "not an image in a format that can be read",
    }
    assert by_name["cut.jpg"].error.startswith("damaged or truncated (")
    turned = by_name["turned-6.jpg"].facts
    assert (turned.width, turned.height, turned.camera, turned.taken_at) == (60, 90, "Camera", "2019-07-14T12:30:00")
    (workers,) = watched.made
    # One that is sent as bytes, with the members of an archive, has to be there.
    assert all(workers.answered)
    assert sorted([*workers.asked, "gone.jpg"]) == sorted(Path(one.state.path).name for one in many_kinds)
    assert [process.poll() is not None for process in workers._started] == [True] * len(workers._started)


def test_an_encoder_that_is_loaded_on_the_way_is_served_by_processes_from_then_on(many_kinds, tiny_encoder, watched):
    def load():
        loads.append(len(watched.made))
        return tiny_encoder

    expected, loads, encoder = read(many_kinds, tiny_encoder), [], EncoderOnDemand()
    encoder.load = load
    found = list(reading.read_ahead(many_kinds, (), encoder, ahead=lambda: 2, processes=True))
    assert_same(found, expected, tiny_encoder)
    assert loads == [0] and len(watched.made) == 1
    assert len(watched.made[0].asked) == len(many_kinds) - 3  # what was ahead of it


def test_processes_do_not_decode_what_is_known(many_kinds, tiny_encoder, watched):
    known = [one.content_hash for one in read(many_kinds, tiny_encoder) if one.error is None][::2]
    found = read(many_kinds, tiny_encoder, known=known, processes=True)
    assert_same(found, read(many_kinds, tiny_encoder, known=known), tiny_encoder)
    assert {one.content_hash for one in found if one.pixels is None and one.error is None} == set(known)
    assert all(watched.made[0].answered)


@pytest.mark.parametrize(("ahead", "begun"), [(2, 3), (40, 48), (1000, 120)])
def test_processes_are_asked_for_hardly_more_than_is_to_be_ahead(
    photo_folder, tiny_encoder, watched, monkeypatch, ahead, begun
):
    monkeypatch.setattr(reading, "DECODE_THREADS", 2)
    files, submitted = scan([photo_folder]).images * 20, []

    class Pool(ThreadPoolExecutor):
        def submit(self, call, some, *arguments):
            submitted.extend(some)
            return super().submit(call, some, *arguments)

    monkeypatch.setattr(reading, "ThreadPoolExecutor", Pool)
    with closing(
        reading.read_ahead(files, (), EncoderOnDemand(tiny_encoder), ahead=lambda: ahead, processes=True)
    ) as pieces:
        assert next(pieces).file == files[0]
        assert submitted == files[:begun]


def test_what_a_killed_process_had_is_read_here(many_kinds, tiny_encoder, watched, monkeypatch, caplog):
    def kill_after_some(workers):
        if len(workers.asked) >= 4:
            for process in workers._started:
                process.kill()

    monkeypatch.setattr(watched, "at_answer", staticmethod(kill_after_some))
    found = read(many_kinds, tiny_encoder, ahead=2, processes=True)
    assert_same(found, read(many_kinds, tiny_encoder), tiny_encoder)
    assert {True, False} == set(watched.made[0].answered)
    assert len(caplog.records) == 1 and "this one goes on with its share" in caplog.text


def test_what_cannot_be_sent_to_processes_stays_in_threads(
    photo_folder, tiny_encoder, tiny_model, watched, monkeypatch
):
    files = scan([photo_folder]).images
    exact = load_encoder(f"local-dir:{tiny_model}", device="cpu", precision="float32", exact_preprocess=True)
    assert exact.pixels_of is None
    assert_same(read(files, exact, processes=True), read(files, exact), exact)
    monkeypatch.setattr(tiny_encoder, "pixels_of", lambda image: np.zeros((32, 32, 3), np.uint8))
    assert_same(read(files, tiny_encoder, processes=True), read(files, tiny_encoder), tiny_encoder)
    assert watched.made == []


@pytest.mark.parametrize(("fast", "cores", "files", "processes"), [
    (True, 4, 2000, True), (True, 64, 10**6, True), (True, 3, 2000, False), (True, 4, 1999, False),
    (False, 64, 10**6, False), (None, 64, 10**6, False),
])
def test_where_processes_pay(monkeypatch, fast, cores, files, processes):
    monkeypatch.setattr(reading, "CORES", cores)
    encoder = SimpleNamespace() if fast is None else SimpleNamespace(is_fast=fast)
    assert reading._processes_pay(encoder, files) is processes


def test_by_itself_it_takes_processes_where_they_pay(photo_folder, tiny_encoder, watched, monkeypatch):
    files = scan([photo_folder]).images
    expected = read(files, tiny_encoder)
    assert watched.made == []
    monkeypatch.setattr(reading, "_processes_pay", lambda encoder, count: (encoder, count) == (tiny_encoder, 6))
    assert_same(read(files, tiny_encoder), expected, tiny_encoder)
    assert len(watched.made) == 1
    assert_same(read(files, tiny_encoder, processes=False), expected, tiny_encoder)
    assert len(watched.made) == 1
