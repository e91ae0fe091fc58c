"""What embeddings of another program look like from here: batches of vectors, each with an entry."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Protocol

import numpy as np

from retrieval.documents import FileState
from retrieval.images import ImageFacts

BATCH_ROWS = 8192
_NO_FILE = -1  # a size that no file has


@dataclass(frozen=True)
class Entry:
    """What another program says of one vector. id None means the file's path."""

    file: FileState
    id: str | None = None
    captions: tuple[str, ...] = ()
    facts: ImageFacts | None = None


@dataclass(frozen=True)
class Batch:
    """vectors (b, d), of any length and any float type; b entries."""

    vectors: np.ndarray
    entries: list[Entry]


class Source(Protocol):
    """Embeddings that lie somewhere, looked over but not read yet.

    kind   in words, for messages
    dim    d
    n      how many
    model  the model that made them, if the source says so
    """

    kind: str
    dim: int
    n: int
    model: str | None

    def batches(self) -> Iterator[Batch]:
        """All of them, in order. Raises ExchangeError."""


def file_now(path: str | Path) -> FileState | None:
    """The state of the file at `path`, made absolute; None if there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileState(os.path.abspath(path), status.st_size, status.st_mtime_ns)


def no_file(name: str) -> FileState:
    """For an image that is not at hand: a later `retrieval index` takes any file there as changed."""
    return FileState(name, _NO_FILE, _NO_FILE)


def is_at_hand(file: FileState) -> bool:
    return file.size != _NO_FILE
