"""The stream of batches: complete, the same whatever makes it, and resumable."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from retrieval.errors import TrainingError
from retrieval.reading import DECODE_THREADS
from retrieval.train.augment import Augmentation
from retrieval.train.batches import Batches, made_ahead
from retrieval.train.pairs import Pairs, Photo

COUNTS = [1 + n % 3 for n in range(23)]  # of captions
STRONG = Augmentation(crop=0.4, flip=True, colour=0.3, randaugment=1, word_dropout=0.3)
READ_SECONDS = (0.004, 0.0, 0.002)


def png(number: int) -> bytes:
    """Red says which photo it is; the rest is noise."""
    pixels = np.random.default_rng(number).integers(0, 256, (24, 20, 3), np.uint8)
    pixels[..., 0] = number
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def photo(number: int, content: bytes) -> Photo:
    def read() -> bytes:
        time.sleep(READ_SECONDS[number % 3])  # so that threads overtake each other
        return content

    return Photo(f"{number}.png", read)


@pytest.fixture(scope="module")
def pairs():
    return Pairs(
        [photo(n, png(n)) for n in range(23)],
        [[f"caption {place} of the photo with number {n}" for place in range(count)] for n, count in enumerate(COUNTS)], 0,
    )


def prepare(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((16, 16)))).permute(2, 0, 1)  # (3, 16, 16) uint8


def stream(pairs, epoch=1, first_step=0, **options):
    options = {"batch_size": 4, "seed": 7, **options}
    return list(Batches(pairs, prepare, **options).epoch(epoch, first_step))


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        assert one.texts == other.texts
        for name in ("photos", "pixels", "captions", "owners"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def threads_there():
    return [thread for thread in threading.enumerate() if thread.name.startswith("augment")]


def test_every_photo_once_but_for_the_rest(pairs):
    for epoch in (1, 2):
        batches = stream(pairs, epoch)
        assert len(batches) == Batches(pairs, prepare, batch_size=4, seed=7).steps == 5
        shown = torch.cat([batch.photos for batch in batches]).tolist()
        assert len(shown) == len(set(shown)) == 20 and set(shown) <= set(range(23))
        assert shown != sorted(shown)


def test_pixels_texts_and_numbers_belong_together(pairs):
    firsts = np.cumsum(COUNTS) - COUNTS
    for batch in stream(pairs):
        assert batch.pixels.shape == (4, 3, 16, 16) and batch.pixels.dtype == torch.uint8
        assert (batch.photos.dtype, batch.captions.dtype, batch.owners.dtype) == (torch.int64,) * 3
        for number, pixels in zip(batch.photos.tolist(), batch.pixels):
            image = Image.open(io.BytesIO(png(number)))
            assert torch.equal(pixels, prepare(image)) and pixels[0].unique().tolist() == [number]
        assert batch.owners.tolist() == [0, 1, 2, 3]
        for number, text, caption in zip(batch.photos.tolist(), batch.texts, batch.captions.tolist()):
            place = caption - firsts[number]
            assert 0 <= place < COUNTS[number] and text == f"caption {place} of the photo with number {number}"


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_pixels_keep_their_layout(pairs, layout):
    def laid_out(image):
        return prepare(image)[None].contiguous(memory_format=layout)[0]

    (batch,) = Batches(pairs, laid_out, batch_size=23, seed=7).epoch(1)
    assert batch.pixels.is_contiguous(memory_format=layout)
    assert batch.pixels[:, 0, 3, 5].tolist() == batch.photos.tolist()


def test_one_caption_is_drawn_anew_in_each_epoch(pairs):
    drawn = {number: set() for number in range(23)}
    for epoch in range(1, 13):
        for batch in stream(pairs, epoch):
            for number, caption in zip(batch.photos.tolist(), batch.captions.tolist()):
                drawn[number].add(caption)
    assert [len(drawn[number]) for number in range(23)] == COUNTS


@pytest.mark.parametrize("wanted", [0, 2])
def test_owners_of_uneven_captions(pairs, wanted):
    firsts = np.cumsum(COUNTS) - COUNTS
    for batch in stream(pairs, captions_per_photo=wanted):
        expected = []
        for place, number in enumerate(batch.photos.tolist()):
            mine = [caption for caption, owner in zip(batch.captions.tolist(), batch.owners.tolist()) if owner == place]
            count = min(wanted, COUNTS[number]) if wanted else COUNTS[number]
            assert len(mine) == len(set(mine)) == count
            assert all(firsts[number] <= one < firsts[number] + COUNTS[number] for one in mine)
            expected += [place] * count
        assert batch.owners.tolist() == expected
        numbers = batch.photos[batch.owners].tolist()
        assert batch.texts == [
            f"caption {caption - firsts[number]} of the photo with number {number}"
            for number, caption in zip(numbers, batch.captions.tolist())
        ]


def test_threads_do_not_matter(pairs):
    options = {"augmentation": STRONG, "captions_per_photo": 2}
    alone = stream(pairs, threads=1, **options)
    assert_same(stream(pairs, threads=4, **options), alone)
    assert_same(stream(pairs, threads=3, **options), alone)


def test_seeds_and_epochs_matter(pairs):
    first = stream(pairs, augmentation=STRONG)
    for other in (stream(pairs, 2, augmentation=STRONG), stream(pairs, augmentation=STRONG, seed=8)):
        assert [batch.photos.tolist() for batch in other] != [batch.photos.tolist() for batch in first]

    def of_photo(batches, number):
        return next(batch.pixels[place] for batch in batches for place, one in enumerate(batch.photos) if one == number)

    shown = {number: of_photo(first, number) for number in torch.cat([batch.photos for batch in first]).tolist()}
    second = stream(pairs, 2, augmentation=STRONG)
    both = set(shown) & set(torch.cat([batch.photos for batch in second]).tolist())
    assert sum(not torch.equal(shown[number], of_photo(second, number)) for number in both) > len(both) // 2


@pytest.mark.parametrize("step", [0, 2, 4])
def test_resumed_in_the_middle(pairs, step):
    whole = stream(pairs, augmentation=STRONG)
    assert_same(stream(pairs, first_step=step, augmentation=STRONG), whole[step:])


def test_resumed_at_the_end(pairs):
    assert stream(pairs, first_step=5) == []


def test_processes_take_parts_of_one_batch(pairs):
    options = {"augmentation": STRONG, "captions_per_photo": 0}
    whole = stream(pairs, batch_size=8, **options)
    parts = [stream(pairs, batch_size=4, rank=rank, world=2, threads=1 + rank, **options) for rank in range(2)]
    assert [len(part) for part in parts] == [len(whole)] * 2 == [2, 2]
    for together, first, second in zip(whole, *parts):
        assert set(first.photos.tolist()).isdisjoint(second.photos.tolist())
        assert together.texts == first.texts + second.texts
        assert torch.equal(together.photos, torch.cat([first.photos, second.photos]))
        assert torch.equal(together.pixels, torch.cat([first.pixels, second.pixels]))
        assert torch.equal(together.captions, torch.cat([first.captions, second.captions]))
        assert torch.equal(together.owners, torch.cat([first.owners, second.owners + 4]))


def test_photos_with_sides_are_never_mirrored():
    """Grey in the left half, white in the right one."""
    image = Image.new("L", (16, 16), 255)
    image.paste(90, (0, 0, 8, 16))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    photos = [Photo(f"{n}.png", buffer.getvalue) for n in range(40)]
    sided = Pairs(photos, [["a dog on the left", "a dog"] if n % 2 else ["a dog", "two dogs"] for n in range(40)], 0)
    mirrored = set()
    for epoch in range(6):
        for batch in stream(sided, epoch, batch_size=40, augmentation=Augmentation(1.0, True, 0.0), captions_per_photo=0):
            mirrored |= {number for number, pixels in zip(batch.photos.tolist(), batch.pixels) if pixels[0, 0, 0] == 255}
    assert mirrored and all(number % 2 == 0 for number in mirrored) and len(mirrored) > 15


def test_a_text_about_sides_counts_only_where_it_is_shown():
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.arange(16, dtype=np.uint8), (16, 1))).save(buffer, "PNG")
    pairs = Pairs([Photo("a.png", buffer.getvalue)], [["a dog on the left", "a dog"]], 0)
    seen = set()
    for epoch in range(40):
        (batch,) = stream(pairs, epoch, batch_size=1, augmentation=Augmentation(1.0, True, 0.0))
        seen.add((batch.texts[0], batch.pixels[0, 0, 0, 0].item() == 15))
    assert seen == {("a dog on the left", False), ("a dog", False), ("a dog", True)}


def test_photos_come_upright_without_what_their_files_say(caplog):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3  # upside down
    exif[ExifTags.Base.Artist] = "Anna Secret"
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (0, 0, 16, 8))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    pairs = Pairs([Photo("a.png", buffer.getvalue)] * 2, [["one"], ["other"]], 0)
    with caplog.at_level("DEBUG", "retrieval"):
        (batch,) = stream(pairs, batch_size=2)
    assert batch.pixels[:, :, 2].max() == 255 and batch.pixels[:, :, 13].max() == 0
    assert "Secret" not in repr(batch) + caplog.text


def test_large_photos_are_decoded_smaller():
    buffer = io.BytesIO()
    Image.new("RGB", (640, 480)).save(buffer, "JPEG")
    pairs = Pairs([Photo("a.jpg", buffer.getvalue)] * 2, [["one"], ["other"]], 0)
    sizes = []

    def noted(image):
        sizes.append(image.size)
        return prepare(image)

    next(Batches(pairs, noted, batch_size=2, seed=0, at_least=60).epoch(1))
    assert sizes == [(160, 120)] * 2


def test_decoding_ahead_is_bounded(pairs):
    lock, read = threading.Lock(), []

    def counted(one):
        def reader():
            with lock:
                read.append(one.name)
            return one.read()
        return Photo(one.name, reader)

    watched = Pairs([counted(one) for one in pairs.photos], pairs.captions, 0)
    batches = Batches(watched, prepare, batch_size=4, seed=7, threads=4).epoch(1)
    assert read == []
    next(batches)
    time.sleep(0.2)  # for the threads to go on as far as they may
    assert 4 <= len(read) <= 8
    next(batches)
    time.sleep(0.2)
    assert 8 <= len(read) <= 12
    batches.close()


def test_made_while_the_one_before_is_used():
    made, closed = [], []

    def numbers():
        try:
            for number in range(4):
                made.append((number, threading.current_thread().name.partition("_")[0]))
                yield number
        finally:
            closed.append(True)

    ahead = made_ahead(numbers())
    assert made == []
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(made) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [(0, "ahead"), (1, "ahead")]  # and no further
    assert list(ahead) == [1, 2, 3] and closed == [True]
    stopped = made_ahead(numbers())
    next(stopped)
    stopped.close()
    assert closed == [True, True]


def test_an_error_comes_in_its_turn():
    def numbers():
        yield 1
        raise TrainingError("no second")

    ahead = made_ahead(numbers())
    assert next(ahead) == 1
    with pytest.raises(TrainingError, match="no second"):
        next(ahead)


def test_threads_end(pairs):
    batches = Batches(pairs, prepare, batch_size=4, seed=7, threads=3)
    closed = batches.epoch(1)
    next(closed)
    assert threads_there()
    closed.close()
    assert threads_there() == []
    list(batches.epoch(1))
    assert threads_there() == []


def test_an_unreadable_photo_is_named_and_ends_it(pairs):
    photos = list(pairs.photos)
    photos[11] = Photo("holiday.png", lambda: png(11)[:60])
    batches = Batches(Pairs(photos, pairs.captions, 0), prepare, batch_size=23, seed=7, threads=2).epoch(1)
    with pytest.raises(TrainingError, match="holiday.png: .*Take it out and start again"):
        next(batches)
    assert threads_there() == []
    with pytest.raises(StopIteration):
        next(batches)


def test_too_few_photos(pairs):
    with pytest.raises(TrainingError, match="^23 photos are fewer than a batch of 24. Take a smaller batch.$"):
        Batches(pairs, prepare, batch_size=24, seed=0)
    with pytest.raises(TrainingError, match="the 24 that 4 processes with 6 each take in a step. .* or fewer processes"):
        Batches(pairs, prepare, batch_size=6, seed=0, rank=3, world=4)
    assert Batches(pairs, prepare, batch_size=23, seed=0).steps == 1


def test_captions_that_are_all_the_same(pairs):
    same = Pairs(pairs.photos, [["a photo"] * count for count in COUNTS], 0)
    with pytest.raises(TrainingError, match="All captions are the same, 'a photo'"):
        Batches(same, prepare, batch_size=4, seed=0)


@pytest.mark.parametrize("step", [-1, 6])
def test_steps_that_are_not_there(pairs, step):
    with pytest.raises(TrainingError, match=f"Epoch 3 has no step {step}: it has 5."):
        Batches(pairs, prepare, batch_size=4, seed=0).epoch(3, step)


@pytest.mark.parametrize(("asked", "threads"), [(None, min(4, DECODE_THREADS)), (1, 1), (6, 6)])
def test_no_more_threads_than_leave_learning_its_turn(pairs, monkeypatch, asked, threads):
    made = []
    monkeypatch.setattr("retrieval.train.batches.ThreadPoolExecutor", lambda count, **options: (
        made.append(count), ThreadPoolExecutor(count, **options))[1])
    list(Batches(pairs, prepare, batch_size=4, seed=7, threads=asked).epoch(1))
    assert made == [threads]
