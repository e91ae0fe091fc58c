"""The vectors of a collection: float16 .npy shards, appended to and memory-mapped.

How many rows count is the catalogue's word, not the files': rows behind the last committed
one are leftovers of an interrupted run and are written over by the next.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from retrieval.errors import CollectionError
from retrieval.files import sync_folder

VECTORS_FOLDER = "vectors"
SHARD_ROWS = 65_536
# Fixed, so that the row count in a .npy header can be rewritten in place as a shard grows.
HEADER_BYTES = 128


def vectors_folder(path: Path, rewrites: int) -> Path:
    """Where a collection's vectors lie after so many rewrites."""
    return path / (f"{VECTORS_FOLDER}-{rewrites}" if rewrites else VECTORS_FOLDER)


def vectors_folders(path: Path) -> list[Path]:
    """All there are: the one that counts, and leftovers of a rewrite that was killed."""
    return [*path.glob(VECTORS_FOLDER), *path.glob(f"{VECTORS_FOLDER}-[0-9]*")]


class VectorStore:
    """`n` committed rows of `dim` float16 values in `folder`; slices like an array."""

    dtype = np.dtype(np.float16)

    def __init__(self, folder: Path, dim: int, n: int, *, shard_rows: int = SHARD_ROWS):
        self.folder = folder
        self.dim = dim
        self.n = n
        self.shard_rows = shard_rows
        self._maps: dict[int, np.memmap] = {}

    @property
    def shape(self) -> tuple[int, int]:
        return (self.n, self.dim)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows of one contiguous slice as float16 (m, d); within one shard they are not copied.

        Raises CollectionError if truncated.
        """
        start, stop, step = rows.indices(self.n)
        if step != 1:
            raise ValueError("vectors are read in contiguous slices")
        parts = []
        while start < stop:
            shard, first = divmod(start, self.shard_rows)
            last = min(self.shard_rows, first + stop - start)
            parts.append(self._map(shard)[first:last])
            start += last - first
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float16)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Chosen rows as float32 unit vectors (m, d), in the order given."""
        taken = self.take_halves(rows).astype(np.float32)
        # float16 rounding leaves lengths off by up to 5e-4
        taken /= np.linalg.norm(taken, axis=1, keepdims=True)
        return taken

    def take_halves(self, rows: np.ndarray, room: np.ndarray | None = None) -> np.ndarray:
        """Chosen rows as they are stored: float16 (m, d), in the order given; in `room` if given.

        Raises IndexError on a row that there is not.
        """
        rows = np.asarray(rows)
        taken = np.empty((len(rows), self.dim), np.float16) if room is None else room
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.n:
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.n}")
        shards = rows // self.shard_rows
        for shard in set(shards.tolist()):
            stored = np.asarray(self._map(shard))  # the class for mapped files is slower
            chosen = np.flatnonzero(shards == shard)
            first, last = chosen[0], chosen[-1] + 1
            if last - first == len(chosen):  # as with rows in ascending order, which need no copy
                stored.take(rows[first:last] - shard * self.shard_rows, axis=0, out=taken[first:last], mode="clip")
            else:
                taken[chosen] = stored[rows[chosen] - shard * self.shard_rows]
        return taken

    def chosen(self, rows: np.ndarray) -> ChosenRows:
        return ChosenRows(self, rows)

    def map_all(self) -> None:
        """Map every shard now, so that these stay the ones that are read; no vector is read yet.

        Raises CollectionError if a shard is missing or truncated.
        """
        for shard in range(-(-self.n // self.shard_rows)):
            self._map(shard)

    def append(self, vectors: np.ndarray) -> range:
        """Write unit rows (m, d) behind the last committed one and flush them to disk.

        Returns their row numbers. They count once the catalogue commits them; the caller then
        sets `n`. Raises OSError, or CollectionError if the shard to go on with is truncated.
        """
        halves = np.ascontiguousarray(vectors, np.float16)
        written = 0
        while written < len(halves):
            shard, first = divmod(self.n + written, self.shard_rows)
            part = halves[written : written + self.shard_rows - first]
            self._write(shard, first, part)
            written += len(part)
        return range(self.n, self.n + len(halves))

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.npy"

    def _write(self, shard: int, first: int, part: np.ndarray) -> None:
        if not self.folder.exists():
            self.folder.mkdir()
            sync_folder(self.folder.parent)
        path = self._path(shard)
        new = not path.exists()
        if first:
            self._committed_rows(shard)  # writing behind a truncated shard would fill it with zeros
        with open(path, "w+b" if new else "r+b") as file:
            file.seek(HEADER_BYTES + first * self.dim * self.dtype.itemsize)
            file.write(part.tobytes())
            file.truncate()
            file.seek(0)
            file.write(_header(first + len(part), self.dim))
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self.folder)
        self._maps.pop(shard, None)  # the file grew; map it anew

    def _map(self, shard: int) -> np.memmap:
        if shard not in self._maps:
            shape = (self._committed_rows(shard), self.dim)
            self._maps[shard] = np.memmap(
                self._path(shard), self.dtype, "r", offset=HEADER_BYTES, shape=shape
            )
        return self._maps[shard]

    def _committed_rows(self, shard: int) -> int:
        """Raises CollectionError if the shard's file holds fewer."""
        path = self._path(shard)
        rows = min(self.shard_rows, self.n - shard * self.shard_rows)
        needed = HEADER_BYTES + rows * self.dim * self.dtype.itemsize
        found = path.stat().st_size if path.exists() else 0
        if found < needed:
            raise CollectionError(
                f"{path} should hold {rows} vectors ({needed} bytes) but has {found} bytes. "
                "The collection is damaged; rebuild it: retrieval index --rebuild SOURCE "
                f"-o {self.folder.parent}"
            )
        return rows


class ChosenRows:
    """Some rows (m,) of a store, read as they are sliced: float16 (m, d), bit by bit."""

    dtype = VectorStore.dtype

    def __init__(self, store: VectorStore, rows: np.ndarray):
        self._store, self._rows = store, rows

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self._rows), self._store.dim)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, places: slice) -> np.ndarray:
        return self._store.take_halves(self._rows[places])


def _header(rows: int, dim: int) -> bytes:
    """A .npy version 1.0 header of exactly HEADER_BYTES, as numpy's format document lays it out."""
    description = f"{{'descr': '<f2', 'fortran_order': False, 'shape': ({rows}, {dim}), }}"
    length = HEADER_BYTES - npy.MAGIC_LEN - 2
    text = description.ljust(length - 1) + "\n"
    return npy.magic(1, 0) + length.to_bytes(2, "little") + text.encode("ascii")
