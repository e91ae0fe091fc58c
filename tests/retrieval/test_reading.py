import os
import sys
import threading

import pytest

from retrieval import reading
from retrieval.corpus.folder import scan
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

    def noted(*arguments):
        found.append(niceness())
        return read(*arguments)

    monkeypatch.setattr(reading, "_read", noted)
    files = scan([photo_folder]).images
    list(reading.read_ahead(files, (), EncoderOnDemand(tiny_encoder), ahead=lambda: 2))
    assert found == [min(19, ours + 10)] * 6 and niceness() == ours


def test_an_encoder_is_loaded_once():
    encoder, loads = EncoderOnDemand(), []
    encoder.load = lambda: loads.append(1) or "an encoder"
    assert encoder.loaded is None
    assert (encoder(), encoder(), loads) == ("an encoder", "an encoder", [1])
