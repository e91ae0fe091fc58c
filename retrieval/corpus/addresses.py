"""Addresses: strings that say where the bytes of an image are.

    /photos/a.jpg            a file
    /photos/shard.tar#a.jpg  a member of an archive
    /photos/a.gif#frame=12   a frame of an animation, or a page; the first one is 0
    /photos/a.mp4#t=83.5     a frame of a video, by the seconds from its beginning
    s3://photos/a.jpg        anything that fsspec opens, and links to the web

A file whose own name has a # comes before what it might mean otherwise.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from retrieval.corpus import remote
from retrieval.corpus.archives import is_archive, open_archive
from retrieval.corpus.found import INSIDE
from retrieval.corpus.remote import is_uri
from retrieval.errors import ImageError
from retrieval.images.frames import animation_frame
from retrieval.images.video import video_frame

_FRAME = re.compile(r"(?P<file>.+)#(?P<kind>frame|t)=(?P<number>\d+(?:\.\d+)?)", re.DOTALL)


def of_frame(address: str, number: int) -> str:
    """Of a frame of the animation at `address`."""
    return f"{address}{INSIDE}frame={number}"


def at_time(address: str, seconds: float) -> str:
    """Of a frame of the video at `address`; to the millisecond, with no more digits than it takes."""
    digits = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return f"{address}{INSIDE}t={digits}"


def position(address: str) -> dict[str, float]:
    """Where a frame lies, `time_seconds` in a video or `frame` in an animation; else nothing."""
    frame = _FRAME.fullmatch(address)
    if frame is None:
        return {}
    if frame["kind"] == "t":
        return {"time_seconds": float(frame["number"])}
    return {"frame": int(float(frame["number"]))}


def in_words(address: str) -> str:
    """For people: `a.mp4 @ 00:01:23.5`. Works for ids as well."""
    frame = _FRAME.fullmatch(address)
    if frame is None:
        return address
    if frame["kind"] == "frame":
        return f"{frame['file']} @ frame {frame['number']}"
    whole, _, fraction = frame["number"].partition(".")
    minutes, seconds = divmod(int(whole), 60)
    time = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    return f"{frame['file']} @ {time}{fraction and '.' + fraction}"


def read(address: str) -> bytes:
    """The image's bytes, as a file of its own would have them. Safe to call from threads.

    Raises ImageError.
    """
    if is_uri(address):
        return remote.read(address)
    frame = _FRAME.fullmatch(address)
    if frame and not os.path.lexists(address):
        if frame["kind"] == "t":
            return video_frame(Path(frame["file"]), float(frame["number"]))
        return animation_frame(read(frame["file"]), int(float(frame["number"])))
    try:
        try:
            return Path(address).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            archive, name = _within(address)
            if archive is None:
                raise
            return _read_member(archive, name)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL, as damaged archives have
        raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def file_of(address: str) -> str | None:
    """The path of the file that holds the image alone, or is the video or animation it is a frame of.

    None for members of archives, and for what lies elsewhere.
    """
    if is_uri(address) or os.path.lexists(address):
        return None if is_uri(address) else address
    if frame := _FRAME.fullmatch(address):
        return file_of(frame["file"])
    archive, _ = _within(address)
    return address if archive is None else None  # a file that is gone by now was one


def is_missing(address: str) -> bool:
    """Whether there is certainly nothing at the address; of other machines nothing is certain.

    Frames are there while their file is.
    """
    if is_uri(address):
        return False
    frame = _FRAME.fullmatch(address)
    if frame and not os.path.lexists(address):
        return is_missing(frame["file"])
    try:
        os.lstat(address)
    except (FileNotFoundError, NotADirectoryError):
        archive, name = _within(address)
        if archive is None:
            return True
        try:
            opened = open_archive(archive)
        except OSError:
            return False
        return name not in opened.members and opened.fault is None
    except (OSError, ValueError):
        return False  # it may be there, behind a folder that may not be entered
    return False


def is_passed_over(address: str, roots: Container[str]) -> bool:
    """Whether it is there, and can only have been named: looking through folders does not find members
    of archives that are no roots themselves, nor what has no suffix.
    """
    archive, _ = _within(address)
    if archive is not None:
        return archive not in roots and not is_missing(address)
    has_suffix = os.path.splitext(address)[1] != ""
    return not has_suffix and address not in roots and (is_uri(address) or os.path.isfile(address))


def absolute(place: str | os.PathLike[str], base: str = "") -> str:
    """The address of a place that a user names; a relative path begins at `base`, or here.

    file:///photos/a.jpg is a path too.
    """
    place = os.fspath(place)
    if place.lower().startswith("file://"):
        place = "/" + urllib.parse.unquote(place[len("file://") :].partition("/")[2])
    return place if is_uri(place) else os.path.abspath(os.path.join(base, place))


def starts_within(places: Iterable[str]) -> tuple[str, ...]:
    """How the addresses begin of what lies within folders and archives."""
    return tuple(place.rstrip(os.sep) + mark for place in places for mark in _marks(place))


def _marks(place: str) -> tuple[str, ...]:
    """A folder "photos" may have a neighbour "photos#2", which is no part of it."""
    is_file = os.path.splitext(place)[1] and not os.path.isdir(place)
    return (os.sep, INSIDE) if is_file else (os.sep,)


def member_state(address: str) -> tuple[int, int] | None:
    """(size in bytes, time in ns) of a member of an archive; None if there is none. Raises OSError."""
    archive, name = _within(address)
    if archive is None:
        return None
    place = open_archive(archive).members.get(name)
    return None if place is None else (place.size, os.stat(archive).st_mtime_ns)


def _within(address: str) -> tuple[str, str] | tuple[None, str]:
    """The archive that an address leads into, and the member's name; both may have a # in them."""
    for file, name in _splits(address):
        if is_archive(file) and os.path.isfile(file):
            return file, name
    return None, ""


def _splits(address: str) -> Iterator[tuple[str, str]]:
    for mark in re.finditer(INSIDE, address):
        yield address[: mark.start()], address[mark.end() :]


def _read_member(archive: str, name: str) -> bytes:
    opened = open_archive(archive)
    try:
        return opened.read(name)
    except KeyError:
        raise ImageError(opened.fault or "no longer in its archive") from None
