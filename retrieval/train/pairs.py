"""Training pairs: photos from a folder or a tar file, each with its captions."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from retrieval.corpus.captions import match_captions, read_captions
from retrieval.corpus.folder import scan
from retrieval.errors import CorpusError
from retrieval.images import SUFFIXES


@dataclass(frozen=True)
class Photo:
    name: str
    read: Callable[[], bytes]  # safe to call from threads


@dataclass(frozen=True)
class Pairs:
    """Photos with at least one caption each; missing counts captioned photos not found."""

    photos: list[Photo]
    captions: list[list[str]]  # captions[i] belong to photos[i]
    missing: int


def read_pairs(images: Path, captions: Path, *, split: str | None = None) -> Pairs:
    """Raises CorpusError or CaptionsError if either side is missing or nothing matches."""
    photos = photos_in(images)
    matched = match_captions(
        read_captions(captions, split=split).captions, [photo.name for photo in photos]
    )
    texts: list[list[str]] = [[] for _ in photos]
    for text, position in zip(matched.texts, matched.documents):
        texts[position].append(text)
    captioned = [index for index, one in enumerate(texts) if one]
    return Pairs(
        [photos[index] for index in captioned],
        [texts[index] for index in captioned],
        missing=len(matched.missing),
    )


def photos_in(images: Path) -> list[Photo]:
    """Every image of a folder or an uncompressed tar file, by name. Raises CorpusError."""
    if not images.exists():
        raise CorpusError(f"{images} does not exist. Give a folder of images, or a .tar of them.")
    if images.is_dir():
        photos = [
            Photo(file.relative, Path(file.state.path).read_bytes) for file in scan([images]).images
        ]
    else:
        photos = _photos_in_tar(images)
    if not photos:
        raise CorpusError(f"{images} holds no images.")
    return sorted(photos, key=lambda photo: photo.name)


def _photos_in_tar(archive: Path) -> list[Photo]:
    try:
        with tarfile.open(archive, "r:") as opened:
            members = [
                (member.name, member.offset_data, member.size)
                for member in opened
                if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES
            ]
    except (tarfile.TarError, OSError) as error:
        raise CorpusError(
            f"{archive} is neither a folder nor an uncompressed tar file ({error})."
        ) from error

    def reader(offset: int, size: int) -> Callable[[], bytes]:
        def read() -> bytes:
            with open(archive, "rb") as file:
                file.seek(offset)
                return file.read(size)
        return read

    return [Photo(name, reader(offset, size)) for name, offset, size in members]
