"""Reading image files ahead of the encoder: threads read, hash, decode and preprocess.

Where the encoder is fast each thread has a process that does it instead. A bounded number of images is in
memory, so memory does not grow with the corpus.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, Callable, Collection, Container, Generator, Iterable, Iterator, Sequence, TypeVar

from retrieval.corpus import addresses
from retrieval.corpus.found import INSIDE, FoundImage
from retrieval.corpus.remote import is_uri
from retrieval.decoding import Workers
from retrieval.errors import ImageError
from retrieval.images import ImageFacts, open_image
from retrieval.types import Encoder

Item = TypeVar("Item")
BATCH_SIZE = 64  # of encoders that do not say what they like
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# More wait for each other, for the interpreter's lock: of 224-pixel JPEGs on 16 cores 4 threads decode 1,940 a
# second, 8 1,920, 17 1,460; 8 processes 6,340, 16 6,500.
DECODE_THREADS = min(8, CORES + 1)
# Processes pay with fewer neither of cores nor of files: they take a second to start.
PROCESSES_CORES, PROCESSES_FILES = 4, 2000
_AT_ONCE = 16  # files a process is asked for
_MOST_TOLD = 100_000  # known contents: each process remembers them
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
    files: Sequence[FoundImage], known: Collection[str], encoder: EncoderOnDemand, *,
    ahead: Callable[[], int], processes: bool | None = None,
) -> Generator[ReadFile, None, None]:
    """Read files in threads, in order, at most `ahead()` before they are asked for.

    Files whose content hash is `known` are not decoded. The encoder is loaded, in the calling
    thread, for the first one that was.

    processes  decode in processes from then on, if the encoder has `pixels_of`; None: where that pays
    """
    waiting: deque[Future[list[ReadFile]]] = deque()
    begun = taken = 0  # files
    workers: Workers | None = None

    def most() -> int:
        # Until there is an encoder files are decoded twice: no more of them than threads.
        return ahead() if encoder.loaded else min(ahead(), DECODE_THREADS)

    def with_pixels(one: ReadFile) -> ReadFile:
        if one.content is None:
            return one
        # Decoded again, as the encoder wants it: vectors must not depend on when it was loaded.
        return replace(one, content=None, pixels=_pixels(one.content, encoder())[1])

    with ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode", initializer=give_way) as pool:
        try:
            while begun < len(files) or waiting:
                if begun < len(files) and begun - taken <= most():
                    if workers is None and processes is not False and encoder.loaded:
                        pays = processes or _processes_pay(encoder.loaded, len(files) - begun)
                        workers = _workers(encoder.loaded, known) if pays else None
                        processes = workers is not None
                    size = max(1, min(_AT_ONCE, most() // DECODE_THREADS)) if workers else 1
                    some = files[begun : begun + size]
                    waiting.append(pool.submit(_read_some, some, known, encoder, workers))
                    begun += len(some)
                    continue
                for one in waiting.popleft().result():
                    taken += 1
                    yield with_pixels(one)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if workers:
                workers.close()


def _processes_pay(encoder: Encoder, count: int) -> bool:
    return getattr(encoder, "is_fast", False) and CORES >= PROCESSES_CORES and count >= PROCESSES_FILES


@dataclass(frozen=True)
class _Preparing:
    """What decoding has to know of an encoder."""

    prepare: Callable[[Any], Any]
    input_size: int | None


def _workers(encoder: Encoder, known: Collection[str]) -> Workers | None:
    """None if what the encoder does to images cannot be sent to processes."""
    pixels_of = getattr(encoder, "pixels_of", None)
    if pixels_of is None:
        return None
    preparing = EncoderOnDemand(_Preparing(pixels_of, getattr(encoder, "input_size", None)))
    told = frozenset(known) if len(known) <= _MOST_TOLD else frozenset()  # else some are decoded for nothing
    try:
        return Workers(partial(_read, known=told, encoder=preparing))
    except Exception:  # pickle raises as it pleases
        return None


def give_way() -> None:
    """Decode with what encoding leaves of the cores: its threads wait for the slowest of them."""
    if sys.platform == "linux":  # elsewhere it is the whole process that is nice
        os.nice(_POLITENESS)


def _read_some(
    files: Sequence[FoundImage], known: Container[str], encoder: EncoderOnDemand, workers: Workers | None
) -> list[ReadFile]:
    paths = [file.state.path for file in files]
    if workers is None:
        read = [_read(path, known=known, encoder=encoder) for path in paths]
    elif not any(is_uri(path) or INSIDE in path for path in paths):
        answers = workers.ask([(path,) for path in paths])
        read = [answer or _read(path, known=known, encoder=encoder) for path, answer in zip(paths, answers)]
    else:  # tables of contents and connections are here; one by one, as their bytes are sent
        read = [_read_and_sent(path, known, encoder, workers) for path in paths]
    return [ReadFile(file, **fields) for file, fields in zip(files, read)]


def _read_and_sent(path: str, known: Container[str], encoder: EncoderOnDemand, workers: Workers) -> dict[str, Any]:
    try:
        content = addresses.read(path)
    except ImageError as error:
        return {"error": str(error)}
    (answer,) = workers.ask([(path, content)])
    return answer or _read(path, content, known=known, encoder=encoder)


def _read(
    path: str, content: bytes | None = None, *, known: Container[str], encoder: EncoderOnDemand
) -> dict[str, Any]:
    """Fields of the ReadFile. content: what lies at the path, if it was read already."""
    hashed = None
    try:
        if content is None:
            content = addresses.read(path)
        hashed = content_hash(content)
        if hashed in known:
            return {"content_hash": hashed}
        if encoder.loaded is None:
            return {"content_hash": hashed, "facts": open_image(content)[1], "content": content}
        facts, pixels = _pixels(content, encoder.loaded)
        return {"content_hash": hashed, "facts": facts, "pixels": pixels}
    except ImageError as error:
        return {"content_hash": hashed, "error": str(error)}


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
