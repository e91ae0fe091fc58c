"""What looking through the sources of a collection finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from retrieval.catalog import FileState


@dataclass(frozen=True)
class FoundImage:
    """An image by its address, not opened yet.

    state     its path is the image's address (see `retrieval.corpus.addresses`)
    root      what it was found below: a folder, or an archive
    relative  its name below the root, with forward slashes: what becomes the document's id
    captions  what its source says of it; None if the source says nothing
    """

    state: FileState
    root: Path
    relative: str
    captions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scan:
    """What a look through the sources found.

    unreadable  (path, reason): folders, archives and odd names
    roots       what was looked through whole: a document below one that was not found is gone
    videos      not looked into: what is known of them stays (see `retrieval.corpus.moving`)
    """

    images: list[FoundImage]
    unreadable: list[tuple[str, str]]
    roots: list[Path]
    videos: list[FoundImage] = field(default_factory=list)
