"""Where the bytes of images are: in files of their own, or within an uncompressed tar."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from retrieval.corpus.archives import open_archive
from retrieval.corpus.folder import scan
from retrieval.corpus.found import is_hidden, is_image
from retrieval.errors import CorpusError


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
        images = [source for source in tar_members(path) if is_image(source.name) and not is_hidden(source.name)]
    if not images:
        raise CorpusError(f"{path} holds no images.")
    return sorted(images, key=lambda source: source.name)


def tar_members(path: Path) -> list[ImageSource]:
    """Every ordinary file of an uncompressed tar, in its order; of two of one name the later.

    Raises CorpusError if it is compressed, damaged or no tar.
    """
    path = Path(os.path.abspath(path))
    try:
        archive = open_archive(str(path))
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror or error}.") from error
    if archive.fault:
        raise CorpusError(f"{path} is {archive.fault}.")
    if any(place.method is not None for place in archive.members.values()):
        raise CorpusError(f"{path} is a zip, and images are read where they lie. Unpack it, and give the folder.")
    return [ImageSource(name, path, place.offset, place.size) for name, place in archive.members.items()]
