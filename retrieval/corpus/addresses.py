"""Addresses: strings that say where the bytes of an image are.

    /photos/a.jpg            a file
    /photos/shard.tar#a.jpg  a member of an archive
    /photos/a.gif#frame=12   a frame of an animation, or a page; the first one is 0
    /photos/a.mp4#t=83.5     a frame of a video, by the seconds from its beginning

A file whose own name has a # comes before what it might mean otherwise.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from retrieval.errors import ImageError
from retrieval.images.frames import animation_frame
from retrieval.images.video import video_frame

INSIDE = "#"  # parts a file from what lies within it
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
    frame = _FRAME.fullmatch(address)
    if frame and not os.path.lexists(address):
        if frame["kind"] == "t":
            return video_frame(Path(frame["file"]), float(frame["number"]))
        return animation_frame(read(frame["file"]), int(float(frame["number"])))
    try:
        return Path(address).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def is_missing(address: str) -> bool:
    """Whether there is certainly nothing at the address. Frames are there while their file is."""
    frame = _FRAME.fullmatch(address)
    if frame and not os.path.lexists(address):
        return is_missing(frame["file"])
    try:
        os.lstat(address)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it may be there, behind a folder that may not be entered
    return False
