"""Where the bytes of images are: in files of their own, or within an uncompressed tar."""

from __future__ import annotations

import os
import posixpath
import tarfile
from dataclasses import dataclass
from pathlib import Path

from retrieval.corpus.folder import scan
from retrieval.errors import CorpusError
from retrieval.images import SUFFIXES

# How compressed files begin.
_COMPRESSED = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
}


@dataclass(frozen=True)
class ImageSource:
    """One image's bytes: all of the file `path`, or `size` bytes from `offset` of the tar `path`.

    name  its relative path, with forward slashes; unique among the images it was found with
    """

    name: str
    path: Path
    offset: int | None = None
    size: int | None = None

    def read(self) -> bytes:
        """Safe to call from threads. Raises OSError."""
        if self.offset is None:
            return self.path.read_bytes()
        with open(self.path, "rb") as archive:
            archive.seek(self.offset)
            return archive.read(self.size)


def images_in(path: Path) -> list[ImageSource]:
    """Every image of a folder or an uncompressed tar file, in order of names.

    Raises CorpusError if there is nothing at `path`, it is neither, or it holds no images.
    """
    if not path.exists():
        raise CorpusError(f"{path} does not exist. Give a folder of images, or a .tar of them.")
    if path.is_dir():
        images = [ImageSource(file.relative, Path(file.state.path)) for file in scan([path]).images]
    else:
        images = [source for source in tar_members(path) if is_image(source.name) and not _is_hidden(source.name)]
    if not images:
        raise CorpusError(f"{path} holds no images.")
    return sorted(images, key=lambda source: source.name)


def is_image(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in SUFFIXES


def _is_hidden(name: str) -> bool:
    """As in folders: "._a.jpg" is no picture but what macOS knows of one."""
    return any(part.startswith(".") and part != ".." for part in name.split("/"))


def tar_members(path: Path) -> list[ImageSource]:
    """Every ordinary file of an uncompressed tar, in its order; of two of one name the later.

    Raises CorpusError if it is compressed, damaged or no tar.
    """
    path = Path(os.path.abspath(path))
    members: dict[str, ImageSource] = {}
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        compression = next((name for magic, name in _COMPRESSED.items() if start.startswith(magic)), None)
        if compression:
            raise CorpusError(
                f"{path} is compressed ({compression}), and images are read where they lie. "
                "Unpack it, and give the folder or the plain .tar."
            )
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and not member.issparse():
                    name = posixpath.normpath(member.name)  # "./a.jpg" is a.jpg
                    members[name] = ImageSource(name, path, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        raise CorpusError(f"{path} is neither a folder nor an uncompressed tar file ({error}).") from error
    return list(members.values())
