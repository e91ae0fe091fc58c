"""What looking through the sources of a collection finds."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import PurePath

from retrieval.documents import FileState
from retrieval.images import SUFFIXES, VIDEO_SUFFIXES

INSIDE = "#"  # in an address: parts a file from what lies within it


@dataclass(frozen=True)
class FoundImage:
    """An image by its address, not opened yet.

    state     its path is the image's address (see `retrieval.corpus.addresses`)
    root      what it was found below: a folder, an archive, or a place elsewhere; for ids alone
    relative  its name below the root, with forward slashes: what becomes the document's id
    captions  what its source says of it; None if the source says nothing
    """

    state: FileState
    root: PurePath
    relative: str
    captions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Scan:
    """What a look through the sources found.

    unreadable  (path, reason): folders, archives and odd names
    roots       addresses of what was looked through whole: a document at or below one that was
                not found is gone
    videos      not looked into: what is known of them stays (see `retrieval.corpus.moving`)
    """

    images: list[FoundImage]
    unreadable: list[tuple[str, str]]
    roots: list[str]
    videos: list[FoundImage] = field(default_factory=list)


def distinct_name(image: FoundImage, taken: Container[str]) -> str:
    """Its path below the root; where that is taken already, with more of the root in front."""
    name = image.relative
    for parent in (image.root, *image.root.parents):
        if name not in taken:
            return name
        name = f"{parent.name or parent.anchor.strip(os.sep)}/{name}"
    # Paths are all different, but some URIs differ only in what paths leave out.
    return image.state.path if name in taken else name


def is_image(name: str) -> bool:
    """By its suffix."""
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def is_video(name: str) -> bool:
    """By its suffix."""
    return posixpath.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_hidden(name: str) -> bool:
    """Of a relative name: "x/._a.jpg" is no picture but what macOS knows of one."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def is_unicode(name: str) -> bool:
    """Whether the catalogue and JSON output can hold the name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(name: str) -> tuple[str, str]:
    """For `Scan.unreadable`, of a name that is not Unicode."""
    try:
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # JSON may spell what no file name has
        shown = name.encode("utf-8", "backslashreplace").decode()
    return shown, "the file name is not valid UTF-8; rename it"


def storable(text: str) -> str:
    """The text with "?" for what the catalogue cannot hold: JSON may spell half a character."""
    return text.encode("utf-8", "replace").decode()
