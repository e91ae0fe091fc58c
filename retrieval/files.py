"""Writing files so that a crash leaves the old content or the new, never a mixture; and the cache folder."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to disk, then rename over it. Raises OSError."""
    with replacing(path) as beside:
        beside.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` once it is whole and on disk. Raises OSError."""
    beside = path.with_name(path.name + ".tmp")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in the folder survive a power cut; Windows and some network disks cannot."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: dict) -> None:
    """`write_atomically` for readable JSON."""
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def obstacle(path: Path) -> str | None:
    """What keeps a file or folder from being made at `path`, in words; None if nothing does."""
    nearest = path.absolute()
    while not os.path.exists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    if nearest != path.absolute() and not nearest.is_dir():
        return f"{nearest} is a file"
    return None if os.access(nearest, os.W_OK) else f"no leave to write in {nearest}"


def cache_folder() -> Path:
    """`$RETRIEVAL_CACHE`, else `retrieval` in the user's cache folder. Raises OSError if there is none."""
    if os.environ.get("RETRIEVAL_CACHE"):
        return Path(os.environ["RETRIEVAL_CACHE"])
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home, as in some containers
        raise OSError(
            "There is no home folder to keep a cache in. Set RETRIEVAL_CACHE to a folder that can be written."
        ) from None
    return Path(base) / "retrieval"
