"""Images that are named one by one: in a list of paths and URIs, or by the rows of a table."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import PurePath
from typing import BinaryIO

from retrieval.corpus import remote
from retrieval.corpus.addresses import absolute, is_uri, member_state
from retrieval.corpus.found import FoundImage, Scan, escaped, is_image, is_unicode, storable
from retrieval.documents import FileState
from retrieval.errors import NOTICE, CorpusError

log = logging.getLogger("retrieval")


def scan(stream: BinaryIO, base: str) -> Scan:
    """The images of a list, one a line, or between NUL bytes if there are any.

    base  absolute folder at which relative paths begin

    Raises CorpusError if the list is empty.
    """
    content = stream.read()
    mark = b"\0" if b"\0" in content else b"\n"
    names = [os.fsdecode(line.rstrip(b"\r")) for line in content.split(mark) if line.strip()]
    if not names:
        raise CorpusError("The list of images is empty. Give paths or URIs, one a line.")
    return named(((name, None) for name in names), base)


def named(names: Iterable[tuple[str, Iterable[str] | None]], base: str) -> Scan:
    """The images of these names, in order, each once, with all captions that come with it.

    names  (path, URI or member of an archive; captions or None)
    base   absolute folder at which relative paths begin

    Nothing can be told to be gone by a list, so there are no roots. What is not there is
    `unreadable`; folders, and files that are no images by their suffix, are passed over and counted.
    """
    captions: dict[str, dict[str, None] | None] = {}
    for name, said in names:
        address = absolute(name, base)
        if said is None:
            captions.setdefault(address)
        else:
            captions[address] = (captions.get(address) or {}) | dict.fromkeys(map(storable, said))
    images: list[FoundImage] = []
    unreadable: list[tuple[str, str]] = []
    others: list[str] = []
    local = [address for address in captions if not is_uri(address) and not _is_below(address, base)]
    here, common = PurePath(base), PurePath(_common_folder(local))
    for address, said in captions.items():
        texts = None if said is None else tuple(said)
        if not is_unicode(address):
            unreadable.append(escaped(address))
            continue
        if is_uri(address):
            images.append(remote.named(address, texts))
            continue
        try:
            state = _state(address)
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL
            missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            reason = "does not exist" if missing else f"cannot be read: {getattr(error, 'strerror', None) or error}"
            unreadable.append((address, reason))
            continue
        if state is None:
            others.append(address)
            continue
        root = here if _is_below(address, base) else common
        images.append(FoundImage(state, root, os.path.relpath(address, root), texts))
    if others:
        log.log(
            NOTICE, "Passed over %d entries of the list that are no image files by their names, such as %s.",
            len(others), others[0],
        )
    return Scan(images, unreadable, [])


def _state(address: str) -> FileState | None:
    """None for a folder, and for a file that has another suffix than images have. Raises OSError."""
    try:
        status = os.stat(address)
    except (FileNotFoundError, NotADirectoryError):
        member = member_state(address)
        if member is None:
            raise
        return FileState(address, *member)
    if not stat.S_ISREG(status.st_mode) or (os.path.splitext(address)[1] and not is_image(address)):
        return None
    return FileState(address, status.st_size, status.st_mtime_ns)


def _is_below(address: str, folder: str) -> bool:
    return address.startswith(folder.rstrip(os.sep) + os.sep)


def _common_folder(addresses: list[str]) -> str:
    """What ids need not say: the folder that all of them are below."""
    return os.path.commonpath([os.path.dirname(address) for address in addresses]) if addresses else os.sep
