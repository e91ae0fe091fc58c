"""Reading image files ahead of the encoder: threads read, hash, decode and preprocess.

A bounded number of images is in memory, so memory does not grow with the corpus.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Callable, Container, Iterable, Iterator, Sequence, TypeVar

from retrieval.corpus import addresses
from retrieval.corpus.found import FoundImage
from retrieval.errors import ImageError
from retrieval.images import ImageFacts, open_image
from retrieval.types import Encoder

Item = TypeVar("Item")
BATCH_SIZE = 64  # of encoders that do not say what they like
DECODE_THREADS = min(32, (os.cpu_count() or 1) + 1)
_POLITENESS = 10  # how much nicer decoding is than encoding


class EncoderOnDemand:
    """Loads an encoder when the first image needs it, and keeps it."""

    def __init__(self, loaded: Encoder | None = None):
        self.loaded = loaded
        self.load: Callable[[], Encoder] | None = None

    def __call__(self) -> Encoder:
        if self.loaded is None:
            self.loaded = self.load()
        return self.loaded

    @property
    def batch_size(self) -> int:
        """How many images at once keep it busy."""
        return getattr(self.loaded, "batch_size", BATCH_SIZE)


@dataclass(frozen=True)
class ReadFile:
    """A file that was read. pixels: what the encoder takes; None if it failed or is known."""

    file: FoundImage
    content_hash: str | None = None
    facts: ImageFacts | None = None
    pixels: Any = None
    error: str | None = None
    content: bytes | None = None  # of an image that can be read, while no encoder was there to take it


def read_ahead(
    files: Sequence[FoundImage], known: Container[str], encoder: EncoderOnDemand, *, ahead: Callable[[], int]
) -> Iterator[ReadFile]:
    """Read files in threads, in order, at most `ahead()` before they are asked for.

    Files whose content hash is `known` are not decoded. The encoder is loaded, in the calling
    thread, for the first one that was.
    """
    waiting: deque[Future[ReadFile]] = deque()

    def next_one() -> ReadFile:
        one = waiting.popleft().result()
        if one.content is None:
            return one
        # Decoded again, as the encoder wants it: vectors must not depend on when it was loaded.
        return replace(one, content=None, pixels=_pixels(one.content, encoder())[1])

    with ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode", initializer=give_way) as pool:
        try:
            for file in files:
                waiting.append(pool.submit(_read, file, known, encoder))
                # Until there is an encoder files are decoded twice: no more of them than threads.
                if len(waiting) > (ahead() if encoder.loaded else min(ahead(), DECODE_THREADS)):
                    yield next_one()
            while waiting:
                yield next_one()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def give_way() -> None:
    """Decode with what encoding leaves of the cores: its threads wait for the slowest of them."""
    if sys.platform == "linux":  # elsewhere it is the whole process that is nice
        os.nice(_POLITENESS)


def _read(file: FoundImage, known: Container[str], encoder: EncoderOnDemand) -> ReadFile:
    hashed = None
    try:
        content = addresses.read(file.state.path)
        hashed = content_hash(content)
        if hashed in known:
            return ReadFile(file, hashed)
        if encoder.loaded is None:
            return ReadFile(file, hashed, open_image(content)[1], content=content)
        return ReadFile(file, hashed, *_pixels(content, encoder.loaded))
    except ImageError as error:
        return ReadFile(file, hashed, error=str(error))


def content_hash(content: bytes) -> str:
    """What the catalogue knows a file's content by."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _pixels(content: bytes, encoder: Encoder) -> tuple[ImageFacts, Any]:
    image, facts = open_image(content, at_least=getattr(encoder, "input_size", None))
    return facts, encoder.prepare(image)


class Rhythm:
    """How many images, or texts, make a batch: as many as asked for, but no more than take some seconds.

    What is encoded is committed batch by batch; on a slow machine little is lost to a kill.
    """

    def __init__(self, batch_size: int, *, first: int = 16, seconds: float = 5.0):
        self.most = batch_size
        self._seconds = seconds
        self.size = min(batch_size, first)  # until it is known how fast the encoder is

    def encoded(self, count: int, seconds: float) -> None:
        """Learn from a batch."""
        if count:
            fitting = self._seconds * count / max(seconds, 1e-6)
            self.size = max(1, min(self.most, int(fitting)))

    def batches(self, items: Iterable[Item], stop: Callable[[], bool]) -> Iterator[list[Item]]:
        """Items in batches. A batch is also over when reading it has taken long, or at a stop."""
        batch: list[Item] = []
        begun = monotonic()
        for item in items:
            batch.append(item)
            if stop():
                break
            if len(batch) >= self.size or monotonic() - begun > self._seconds:
                yield batch
                if stop():
                    return
                batch, begun = [], monotonic()
        if batch:
            yield batch
