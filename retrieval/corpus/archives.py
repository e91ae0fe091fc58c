"""Images within uncompressed tars and within zips, read where they lie.

What is captions beside an image in a folder is so in an archive; with tars of KEY.jpg, KEY.txt and
KEY.json that is webdataset's habit.
"""

from __future__ import annotations

import os
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from threading import Lock
from typing import BinaryIO, NamedTuple

from retrieval.corpus.found import INSIDE, FoundImage, Scan, escaped, is_hidden, is_image, is_unicode
from retrieval.corpus.sidecars import Sidecars
from retrieval.documents import FileState
from retrieval.errors import ImageError

SUFFIXES = (".tar", ".zip")
MOST_BYTES = 1 << 30  # of one image; a zip may claim anything
# How compressed files begin.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_COMPRESSED_SUFFIXES = tuple(f".{tar}" for tar in "tgz tbz2 txz tar.gz tar.bz2 tar.xz tar.zst".split())
_ZIP = (b"PK\3\4", b"PK\5\6")  # the second is an empty one
_KEPT = 8  # indexes of archives that stay in memory
_lock = Lock()


class Place(NamedTuple):
    """Where the bytes of a member lie; of a zip's, at offset lies its header.

    packed  how many bytes lie there
    size    how many they are unpacked
    method  of a zip's: stored, deflated, or another; None in a tar
    """

    offset: int
    packed: int
    size: int
    method: int | None = None
    crc: int = 0
    encrypted: bool = False


@dataclass(frozen=True)
class Archive:
    """The files within an archive, in its order; of two of one name the later.

    fault  why there are no others that can be read: "damaged or cut short (...)"; None if all is well
    """

    path: str
    members: dict[str, Place]
    fault: str | None = None

    def read(self, name: str, file: BinaryIO | None = None) -> bytes:
        """The content of a member. Raises KeyError, OSError, ImageError.

        file  the archive, if it is open already
        """
        place = self.members[name]
        if max(place.size, place.packed) > MOST_BYTES:
            raise ImageError(f"larger than {MOST_BYTES >> 20} MiB")
        try:
            if file is None:
                with open(self.path, "rb") as file:
                    return _read(place, file)
            return _read(place, file)
        except (ValueError, OverflowError) as error:  # an offset that no file reaches
            raise ImageError("the archive is damaged here") from error


def is_archive(name: str) -> bool:
    """By its name; compressed tars, which are refused with a reason, are among them."""
    return name.lower().endswith(SUFFIXES + _COMPRESSED_SUFFIXES)


def open_archive(path: str) -> Archive:
    """The archive's table of contents, remembered until it changes. Safe to call from threads.

    What is wrong with it is its `fault`. Raises OSError.
    """
    status = os.stat(path)
    with _lock:
        return _opened(path, status.st_mtime_ns, status.st_size)


def scan(path: str) -> Scan:
    """The images of the archive at this absolute path, in its order; hidden ones are passed over.

    An image counts as changed when the archive does: times within are often all the same.
    """
    try:
        status = os.stat(path)
        archive = open_archive(path)
        unreadable = [(path, archive.fault)] if archive.fault else []
        images = list(_images(archive, status.st_mtime_ns, unreadable))
    except OSError as error:
        return Scan([], [(path, f"cannot be read: {error.strerror or error}")], [path])
    return Scan(images, unreadable, [path])


def _images(archive: Archive, mtime_ns: int, unreadable: list[tuple[str, str]]) -> Iterator[FoundImage]:
    sidecars = Sidecars()
    with open(archive.path, "rb") as file:
        for name, place in archive.members.items():
            if not is_image(name) or is_hidden(name):
                continue
            address = f"{archive.path}{INSIDE}{name}"
            if not is_unicode(address):
                unreadable.append(escaped(address))
                continue
            captions = sidecars.captions(name, archive.members, lambda beside: _text(archive, beside, file))
            state = FileState(address, place.size, mtime_ns)
            yield FoundImage(state, PurePath(archive.path), name.lstrip("/"), captions)
    sidecars.tell(archive.path)


def _text(archive: Archive, name: str, file: BinaryIO) -> bytes:
    """Of what may be captions."""
    try:
        return archive.read(name, file)
    except ImageError as error:
        raise OSError(str(error)) from error


@lru_cache(_KEPT)
def _opened(path: str, mtime_ns: int, size: int) -> Archive:
    with open(path, "rb") as file:
        start = file.read(8)
        compression = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
        if compression:
            return Archive(path, {}, (
                f"compressed ({compression}), and images are read where they lie. "
                "Unpack it, and give the folder or the plain .tar"
            ))
        is_zip = start.startswith(_ZIP) or path.lower().endswith(".zip")
        members: dict[str, Place] = {}
        fault = _list_zip(file, members) if is_zip else _list_tar(file, members, size)
    return Archive(path, members, fault)


def _list_tar(file: BinaryIO, members: dict[str, Place], size: int) -> str | None:
    file.seek(0)
    if file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE):
        return None  # there is no member, which Python 3.10's tarfile stumbles over
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            while member := archive.next():
                archive.members.clear()  # tarfile would keep them all
                if not member.isreg() or member.issparse():
                    continue
                if not 0 <= member.size <= size - member.offset_data:
                    return f"cut short within {member.name}"
                name = posixpath.normpath(member.name)  # "./a.jpg" is a.jpg
                members.pop(name, None)
                members[name] = Place(member.offset_data, member.size, member.size)
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile takes that for the end
                return "damaged: what follows its last readable member is no member"
    except (tarfile.TarError, ValueError, OverflowError) as error:
        return f"damaged or cut short ({error})" if members else f"not an uncompressed tar file ({error})"
    return None


def _list_zip(file: BinaryIO, members: dict[str, Place]) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    name = posixpath.normpath(member.filename)
                    members.pop(name, None)
                    members[name] = Place(
                        member.header_offset, member.compress_size, member.file_size,
                        member.compress_type, member.CRC, bool(member.flag_bits & 1),
                    )
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        members.clear()
        return f"damaged, cut short, or no zip file ({error})"
    return None


def _read(place: Place, file: BinaryIO) -> bytes:
    if place.encrypted:
        raise ImageError("encrypted; unpack the archive with its password, and give the folder")
    if place.method not in (None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ImageError("packed by a rare method; unpack the archive, and give the folder")
    file.seek(place.offset)
    if place.method is not None:
        header = file.read(30)
        if len(header) < 30 or not header.startswith(b"PK\3\4"):
            raise ImageError("the archive is damaged here")
        file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)  # its name once more, and extras
    content = file.read(place.packed)
    if len(content) < place.packed:
        raise ImageError("the archive ends within it")
    if place.method == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, place.size + 1)
        except zlib.error as error:
            raise ImageError(f"the archive is damaged here ({error})") from error
    if place.method is not None and (len(content) != place.size or zlib.crc32(content) != place.crc):
        raise ImageError("the archive is damaged here")
    return content
