"""Queries: what the user typed, told apart as text or image, and embedded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Sequence, cast

import numpy as np

from retrieval.errors import ImageError, QueryError
from retrieval.images import SUFFIXES, VIDEO_SUFFIXES, open_image
from retrieval.types import Encoder, TextEncoder


@dataclass(frozen=True)
class Query:
    """One query. shown is what results call it.

    image  makes it an image query: a file, its content, or an upright RGB image
    """

    shown: str
    image: Path | bytes | Any = None


def text_query(text: str) -> Query:
    """A query by words, whatever files there are. Raises QueryError if it is empty."""
    stripped = text.strip()
    if not stripped:
        raise QueryError("The query is empty. Say what to look for, or give an image file.")
    return Query(stripped)


def parse(text: str) -> Query:
    """An existing image file is an image query, everything else is text.

    Raises QueryError for an empty query, and for what is plainly a file name of an image that
    is not there: searching for its letters would return nonsense.
    """
    query = text_query(text)
    stripped = query.shown
    path = Path(stripped)
    named_as_image = path.suffix.lower() in SUFFIXES and (
        "/" in stripped or not any(map(str.isspace, stripped))
    )
    try:
        path = path.expanduser()  # "~cat" is a text, and no user's home
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError):  # a text too long, or too odd, to be a path
        is_file = False
    if is_file and path.suffix.lower() in VIDEO_SUFFIXES:
        raise QueryError(f"{stripped} is a video. Search by a picture, such as one frame of it saved as a file.")
    if is_file:
        try:
            with path.open("rb"):
                pass
            return Query(stripped, path) if named_as_image or _opens(path) else query
        except OSError as error:
            raise QueryError(f"The query image {stripped} cannot be read: {error.strerror}.") from error
    if named_as_image:
        raise QueryError(f"There is no image file {stripped}. To search by text, write words.")
    return query


def opened(query: Query, encoder: Encoder) -> Query:
    """An image query with its image decoded as `encoder` needs it. Raises QueryError for a bad one."""
    if not isinstance(query.image, (Path, bytes)):
        return query
    try:
        image, _ = open_image(query.image, at_least=getattr(encoder, "input_size", None))
    except ImageError as error:
        raise QueryError(f"The query image {query.shown}: {error}.") from error
    return replace(query, image=image)


def embed(queries: Sequence[Query], encoder: Encoder | TextEncoder) -> np.ndarray:
    """Query vectors float32 (q, d), unit rows, in order. Raises QueryError for a bad image."""
    vectors = np.empty((len(queries), encoder.dim), np.float32)
    texts = [index for index, query in enumerate(queries) if query.image is None]
    images = [index for index, query in enumerate(queries) if query.image is not None]
    if texts:
        vectors[texts] = encoder.encode_texts([queries[index].shown for index in texts])
    if images:
        whole = cast(Encoder, encoder)  # half of one is given texts alone, see Collection.encoder_for
        pictures: list[Any] = [opened(queries[index], whole).image for index in images]
        vectors[images] = whole.encode_images(pictures)
    return vectors


def _opens(path: Path) -> bool:
    try:
        open_image(path, at_least=1)
    except ImageError:
        return False
    return True
