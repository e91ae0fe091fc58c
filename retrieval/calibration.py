"""Calibration of text-to-image search: images that are close to every text give way a little.

Nearest Neighbor Normalization (Chowdhury et al. 2024, arXiv 2410.24114): an image's bias says how
close it is to captions of other images, and is taken from its score for every text query.

    bias(i)  = max(floor, weight * mean of the k highest scores of image i over reference captions)
    order by   score(t, i) - bias(i)

    photos.collection/calibration/
      references.safetensors      captions' vectors and the hashes of their texts, weight, k
      biases-<digest>-<n>.npy     derived: bias of every vector row, of these references, after n rewrites

The floor is ours: without it what is far from all captions, a page of text among photos, would
come before a photo that fits. The built-in encoder comes with references of its own; a
collection's file has the last word.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from retrieval import encoders
from retrieval.errors import CollectionError
from retrieval.files import write_atomically

FOLDER = "calibration"
FILE_NAME = "references.safetensors"
BUILTIN_FILE = Path(encoders.__file__).parent / "builtin" / FILE_NAME
K, WEIGHT = 128, 0.75
_BLOCK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Calibration:
    """References, and what is made of them.

    references  (r, d) float16 unit rows: captions, none of them a caption of what is searched for
    hashes      (r,) int64 of their texts: see `text_hash`
    weight, k   see the formula above; a weight of 0 means that calibration is off
    source      where the captions came from, for people
    floor       no bias is lower: what nearly all images reach that are like the captions; None for no limit
    """

    references: np.ndarray
    hashes: np.ndarray
    weight: float = WEIGHT
    k: int = K
    source: str = ""
    floor: float | None = None

    @classmethod
    def off(cls) -> Calibration:
        return cls(np.zeros((0, 1), np.float16), np.zeros(0, np.int64), weight=0.0)

    @cached_property
    def digest(self) -> str:
        """Names what the biases depend on."""
        digest = hashlib.sha256(self.references.tobytes())
        digest.update(f"{self.references.shape} {self.weight} {self.k} {self.floor}".encode())
        return digest.hexdigest()[:12]

    def biases(self, vectors: Any, start: int = 0) -> np.ndarray:
        """Bias of each row from `start` on. (n - start,) float32

        vectors  (n, d) float16 or float32 near-unit rows; what can be sliced by row range, as a
                 few thousand at a time are in memory
        """
        n, k = vectors.shape[0], min(self.k, len(self.references))
        references = self.references.astype(np.float32).T  # (d, r)
        biases = np.empty(n - start, np.float32)
        for first in range(start, n, _BLOCK_ROWS):
            block = np.asarray(vectors[first : min(first + _BLOCK_ROWS, n)], np.float32)  # (b, d)
            block = block / np.linalg.norm(block, axis=1, keepdims=True)
            nearest = np.partition(block @ references, -k, axis=1)[:, -k:]  # (b, k)
            biases[first - start : first - start + len(block)] = self.weight * nearest.mean(axis=1)
        return biases if self.floor is None else np.maximum(biases, np.float32(self.floor))

    def known_among(self, texts: Sequence[str]) -> int:
        """How many of the texts are references."""
        return int(np.isin([text_hash(text) for text in texts], self.hashes).sum()) if texts else 0

    def save(self, path: Path) -> None:
        """Raises OSError."""
        about = {"weight": self.weight, "k": self.k, "source": self.source, "floor": self.floor}
        tensors = {"references": np.ascontiguousarray(self.references), "hashes": self.hashes}
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, save(tensors, metadata={"calibration": json.dumps(about)}))

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Raises CollectionError if the file is damaged."""
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["calibration"])
                return cls(file.get_tensor("references"), file.get_tensor("hashes"), **about)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CollectionError(
                f"{path} is damaged ({error}). Calibrate again: retrieval calibrate, with --captions FILE or --off."
            ) from error


def text_hash(text: str) -> int:
    """The same for texts that differ in case or spaces alone. An int64."""
    normal = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.sha256(normal.encode()).digest()[:8], "big", signed=True)


def calibration_of(collection: Path, encoder: str) -> Calibration | None:
    """What the collection was calibrated with, or else its encoder comes with; None where that is off.

    Raises CollectionError if the collection's own is damaged.
    """
    own = collection / FOLDER / FILE_NAME
    if own.exists():
        calibration = Calibration.load(own)
        return calibration if calibration.weight else None
    if encoder in (encoders.BUILTIN, encoders.MULTILINGUAL) and BUILTIN_FILE.exists():
        return Calibration.load(BUILTIN_FILE)
    return None


def state_of(collection: Path) -> tuple[int, int] | None:
    """Another one whenever the collection is calibrated anew, or no longer; None if it never was."""
    try:
        found = os.stat(os.path.join(collection, FOLDER, FILE_NAME))  # every search asks: sooner than by Path
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def carry_over(old: Path, new: Path) -> None:
    """Give a collection the references of another of the same encoder, if it has some. Raises OSError."""
    own = old / FOLDER / FILE_NAME
    if own.exists():
        (new / FOLDER).mkdir(exist_ok=True)
        write_atomically(new / FOLDER / FILE_NAME, own.read_bytes())


def biases_of(
    collection: Path, calibration: Calibration, vectors: Any, rewrites: int, *, keep: bool = False
) -> np.ndarray:
    """The bias of every committed row: those on file, and those of new rows. (n,) float32

    rewrites  of the vectors, after each of which rows have other numbers
    keep      write them to the file, for the next time; by one process at a time. Raises OSError
    """
    file = collection / FOLDER / f"biases-{calibration.digest}-{rewrites}.npy"
    stored = _stored(file)
    n = vectors.shape[0]
    if len(stored) >= n:
        return stored[:n]
    biases = np.concatenate([stored, calibration.biases(vectors, len(stored))])
    if keep:
        file.parent.mkdir(exist_ok=True)
        content = BytesIO()
        np.save(content, biases)
        write_atomically(file, content.getvalue())
        for other in file.parent.glob("biases-*.npy"):
            if other != file:
                other.unlink()
    return biases


def _stored(file: Path) -> np.ndarray:
    """None on file, or not readable: derived, so that they can be computed again."""
    try:
        stored = np.load(file)
        return stored if stored.dtype == np.float32 and stored.ndim == 1 else np.zeros(0, np.float32)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, np.float32)
