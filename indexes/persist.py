"""An index as one file: what FAISS writes, then a trailer that says what it is.

    FAISS bytes | description, JSON | footer, 32 bytes
                                      lengths of the two, checksum, version, magic

FAISS reads a file only as far as it needs, so plain faiss.read_index still opens it. The trailer
comes last, so a file that was cut short has none. The checksum covers the description and the
first 4 KiB, where FAISS keeps types and sizes; not the rest, because opening a file of many
gigabytes would then read all of it, and memory-mapping exists precisely to avoid that.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from contextlib import suppress
from typing import Any, BinaryIO

import faiss

from indexes.device import to_device
from indexes.errors import IndexFileError
from indexes.index import VectorIndex
from indexes.spec import IndexSpec

FORMAT_VERSION = 1

_MAGIC = b"XMINDEX\n"
_FOOTER = struct.Struct("<QIII4x8s")  # FAISS bytes, description bytes, checksum, version, magic
_HEAD_BYTES = 4096
_REBUILD = "An index can always be rebuilt from its vectors."


def save_index(
    index: VectorIndex, path: str | os.PathLike[str], *, source: str | None = None
) -> None:
    """Write the index to one file, so that `path` holds the old file or the new one, never half.

    source  what its rows are numbered by: load_index refuses the file for rows of another source

    Writes `path`.tmp beside it, flushes it to disk, then replaces. An index on a GPU is copied
    to the CPU first.
    Raises IndexFileError if the file cannot be written; the old file is then as it was.
    """
    path = os.fspath(path)
    beside = f"{path}.tmp"
    try:
        _write(index, beside, source)
        os.replace(beside, path)
        _flush_folder(os.path.dirname(path) or ".")
    except (OSError, RuntimeError) as error:  # FAISS raises RuntimeError for open() and write()
        with suppress(OSError):
            os.remove(beside)
        reason = str(error) if isinstance(error, OSError) else "FAISS could not write it"
        raise IndexFileError(
            f"{path}: the index was not saved ({reason}). Check that the folder exists, is "
            "writable and has room."
        ) from error


def load_index(
    path: str | os.PathLike[str],
    spec: IndexSpec,
    *,
    dim: int | None = None,
    source: str | None = None,
    device: str = "auto",
    mmap: bool = False,
) -> VectorIndex:
    """Open what save_index wrote.

    spec    what the caller believes the index to be: factory and metric must be the file's;
            how it is searched, and the seed, may differ
    dim     dimensions that the index must have; None takes any
    source  what save_index was told; None takes any
    device  "auto", "cpu" or "gpu": where the index runs
    mmap    leave the vectors on disk and let the system page them in (FAISS 1.11 or later;
            an older one reads them). Nothing can be added to such an index

    Raises IndexFileError on a file that is missing, truncated, foreign, of a newer version, or
    of another spec, dimension or source; VectorIndexError on a device that cannot be had.
    """
    path = os.fspath(path)
    described = _described(path)
    _check_same(path, "factory string", described["factory"], spec.factory)
    _check_same(path, "metric", described["metric"], spec.metric)
    if dim is not None:
        _check_same(path, "dimension", described["dim"], dim)
    if source is not None:
        _check_same(path, "source", described.get("source"), source)
    flags = getattr(faiss, "IO_FLAG_MMAP_IFC", 0) if mmap else 0
    try:
        index = faiss.read_index(path, flags)
    except (RuntimeError, MemoryError):
        raise IndexFileError(f"{path} is damaged: FAISS cannot read it. {_REBUILD}") from None
    if (index.d, index.ntotal) != (described["dim"], described["n"]):
        raise IndexFileError(f"{path} is damaged: it does not hold what it describes. {_REBUILD}")
    return VectorIndex(to_device(index, device), spec)


def _write(index: VectorIndex, path: str, source: str | None) -> None:
    faiss.write_index(to_device(index.faiss_index, "cpu"), path)
    description = {
        "factory": index.spec.factory,
        "metric": index.spec.metric,
        "dim": index.dim,
        "n": index.n,
        **({} if source is None else {"source": source}),
    }
    with open(path, "r+b") as file:
        head = file.read(_HEAD_BYTES)
        length = file.seek(0, os.SEEK_END)
        file.write(_trailer(description, length, head))
        file.flush()
        os.fsync(file.fileno())


def _trailer(description: dict[str, Any], length: int, head: bytes) -> bytes:
    text = json.dumps(description, sort_keys=True).encode()
    checksum = _checksum(head[:length], text)
    return text + _FOOTER.pack(length, len(text), checksum, FORMAT_VERSION, _MAGIC)


def _checksum(head: bytes, text: bytes) -> int:
    return zlib.crc32(text, zlib.crc32(head))


def _described(path: str) -> dict[str, Any]:
    """Return the description in the trailer, having checked that the file is whole and ours."""
    try:
        with open(path, "rb") as file:
            return _read_trailer(path, file)
    except FileNotFoundError:
        raise IndexFileError(f"{path} does not exist. {_REBUILD}") from None
    except OSError as error:
        raise IndexFileError(
            f"{path} cannot be read: {error.strerror or error}. {_REBUILD}"
        ) from None


def _read_trailer(path: str, file: BinaryIO) -> dict[str, Any]:
    head = file.read(_HEAD_BYTES)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _FOOTER.size))
    footer = file.read(_FOOTER.size)
    if not footer.endswith(_MAGIC) or len(footer) < _FOOTER.size:
        if head.startswith(b"I"):  # as every file of FAISS does
            raise IndexFileError(
                f"{path} is cut short, or FAISS wrote it without this package: its description "
                f"is missing. {_REBUILD}"
            )
        raise IndexFileError(f"{path} is not an index file of this package. {_REBUILD}")
    length, text_length, checksum, version, _ = _FOOTER.unpack(footer)
    if version > FORMAT_VERSION:
        raise IndexFileError(
            f"{path} is an index file of version {version}, and this package reads up to version "
            f"{FORMAT_VERSION}: upgrade the package. {_REBUILD}"
        )
    if length + text_length + _FOOTER.size != size:
        raise IndexFileError(f"{path} is truncated: a part of it is missing. {_REBUILD}")
    file.seek(length)
    text = file.read(text_length)
    if _checksum(head[:length], text) != checksum:
        raise IndexFileError(f"{path} is damaged: its checksum is wrong. {_REBUILD}")
    return json.loads(text)


def _check_same(path: str, what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise IndexFileError(
            f"{path} was built with {what} {found}, but {expected} is asked for. {_REBUILD}"
        )


def _flush_folder(folder: str) -> None:
    """Make the replacement survive a power cut; Windows and some network disks cannot do it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
