"""What the catalogue keeps of files: documents, and how one takes over what another had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrieval.images import ImageFacts


@dataclass(frozen=True)
class FileState:
    """What tells an unchanged file. size in bytes, mtime in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Document:
    """A file that was read: embedded if `error` is None, else remembered with its reason.

    captions  None leaves those on record
    """

    file: FileState
    id: str
    content_hash: str | None = None
    facts: ImageFacts | None = None
    error: str | None = None
    captions: tuple[str, ...] | None = ()


@dataclass(frozen=True)
class ImageFile:
    """An embedded document's file: size in bytes, width and height in pixels where they are known."""

    id: str
    path: str
    size: int
    width: int | None
    height: int | None


@dataclass(frozen=True)
class Holder:
    """A document as the holder of a content. row None: one that could not be read."""

    path: str
    content_hash: str
    row: int | None
    facts: ImageFacts | None
    error: str | None


@dataclass(frozen=True)
class Takeover:
    """The document at `old_path` becomes that of `file`, with its vector row and its facts.

    captions  None leaves those on record
    """

    old_path: str
    file: FileState
    id: str
    captions: tuple[str, ...] | None = None
