"""The image that a user means: a file, or one of a collection by its id or path."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from retrieval.collection import Collection
from retrieval.corpus import addresses
from retrieval.errors import ImageError, QueryError
from retrieval.images import open_image
from retrieval.types import Encoder


@dataclass(frozen=True)
class NamedImage:
    """name: as the user gave it. row: its vector in the collection; None for a file."""

    name: str
    address: str
    row: int | None = None

    def open(self, at_least: int | None = None) -> Image.Image:
        """Decoded as by `open_image`. Raises QueryError if it cannot be read."""
        try:
            return open_image(addresses.read(self.address), at_least=at_least)[0]
        except ImageError as error:
            raise QueryError(f"The image {addresses.in_words(self.name)}: {error}.") from error

    def vector(self, collection: Collection, encoder: Encoder) -> np.ndarray:
        """Its unit vector (d,): the stored one, or else encoded. Raises QueryError."""
        if self.row is not None:
            return collection.vectors.take(np.array([self.row]))[0]
        return encoder.encode_images([self.open(getattr(encoder, "input_size", None))])[0]


def find_image(collection: Collection, name: str) -> NamedImage:
    """A file of that name if there is one, else the stored image with that id or path, or with that id behind id:.

    Raises QueryError if there is neither.
    """
    path = os.path.expanduser(name)
    if name and os.path.isfile(path):
        return NamedImage(name, os.path.abspath(path))
    found = collection.catalog.find(name) or collection.catalog.find(name.removeprefix("id:"))
    if found is None:
        ids = collection.catalog.documents_of_rows(collection.catalog.live_rows()[:1].tolist()).values()
        such_as = "".join(f"; its ids look like {id}" for id, _ in ids)
        raise QueryError(f"{name!r} is no file here, and no image of {collection.path}{such_as}.")
    _, address, row, error = found
    if row is None:
        raise QueryError(f"{name} could not be read when it was indexed: {error}.")
    return NamedImage(name, address, row)
