"""A sketch as one file, which is mapped: opening it reads what all rows have in common, and no row.

    head | mean, basis, middle, step, errors, in float64 | codes

The checksum covers all but the codes, which are as many as the head says, or the file is refused.
"""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np

from indexes.errors import IndexFileError
from indexes.sketch import BLOCK_ROWS, Sketch

VERSION = 1

_MAGIC = b"XMSKETCH"
_HEAD = struct.Struct("<8sIIIIQQ")  # magic, version, checksum, dimensions, bytes a row, rows, made of
_REMAKE = "A sketch can always be made again from its vectors."


def write_sketch(sketch: Sketch, path: str | os.PathLike[str]) -> None:
    """Write a new file. Raises OSError."""
    arrays = (sketch.mean, sketch.basis, sketch.middle, sketch.step, sketch.errors)
    common = b"".join(np.ascontiguousarray(array, "<f8").tobytes() for array in arrays)
    sizes = sketch.dim, sketch.width, sketch.n, sketch.made_of
    with open(path, "wb") as file:
        file.write(_HEAD.pack(_MAGIC, VERSION, _checksum(sizes, common), *sizes))
        file.write(common)
        file.write(np.ascontiguousarray(sketch.codes))


def read_sketch(path: str | os.PathLike[str], dim: int) -> Sketch:
    """Open what write_sketch wrote, of rows of so many dimensions; its codes stay on disk.

    Raises IndexFileError on a file that is missing, truncated, foreign, damaged, of another version
    or of other dimensions.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size or not head.startswith(_MAGIC):
                raise IndexFileError(f"{path} is not a sketch, or cut short. {_REMAKE}")
            _, version, checksum, *sizes = _HEAD.unpack(head)
            if version != VERSION:
                raise IndexFileError(f"{path} is a sketch of version {version}, not {VERSION}. {_REMAKE}")
            if sizes[0] != dim:
                raise IndexFileError(f"{path} is of {sizes[0]}-d rows, not of {dim}-d ones. {_REMAKE}")
            shapes = _shapes(*sizes[:3])
            length = 8 * sum(rows * columns for rows, columns in shapes)
            if os.fstat(file.fileno()).st_size != _HEAD.size + length + sizes[1] * sizes[2]:
                raise IndexFileError(f"{path} is not as long as it says. {_REMAKE}")
            common = file.read(length)
    except OSError as error:
        raise IndexFileError(f"{path} cannot be read: {error.strerror or error}. {_REMAKE}") from None
    if _checksum(sizes, common) != checksum:
        raise IndexFileError(f"{path} is damaged: its checksum is wrong. {_REMAKE}")
    values, arrays = np.frombuffer(common, "<f8"), []
    for rows, columns in shapes:
        arrays.append(values[: rows * columns].reshape(rows, columns))
        values = values[rows * columns :]
    mean, basis, middle, step, errors = arrays
    codes = np.memmap(path, np.uint8, "r", _HEAD.size + length, (sizes[2], sizes[1]))
    return Sketch(mean[0], basis, middle[0], step[0], errors, np.asarray(codes), sizes[3])


def _shapes(dim: int, width: int, n: int) -> list[tuple[int, int]]:
    """Of mean, basis, middle, step and errors."""
    kept = width - 1
    return [(1, dim), (dim, kept), (1, kept), (1, kept), (-(-n // BLOCK_ROWS), 3)]


def _checksum(sizes: tuple[int, ...] | list[int], common: bytes) -> int:
    return zlib.crc32(common, zlib.crc32(repr(tuple(sizes)).encode()))
