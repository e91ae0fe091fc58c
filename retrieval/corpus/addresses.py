"""Addresses: strings that say where the bytes of an image are.

    /photos/a.jpg            a file
    /photos/shard.tar#a.jpg  a member of an archive

A file whose own name has a # comes before what it might mean otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

from retrieval.errors import ImageError

INSIDE = "#"  # parts a file from what lies within it


def read(address: str) -> bytes:
    """The image's bytes, as a file of its own would have them. Safe to call from threads.

    Raises ImageError.
    """
    try:
        return Path(address).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error


def is_missing(address: str) -> bool:
    """Whether there is certainly nothing at the address."""
    try:
        os.lstat(address)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # it may be there, behind a folder that may not be entered
    return False
