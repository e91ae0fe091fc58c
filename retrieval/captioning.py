"""Words for an image: the captions of a collection that fit it best, or one that a model writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np

from retrieval.collection import CAPTIONS, Collection
from retrieval.errors import QueryError
from retrieval.named_image import NamedImage

DEFAULT_K = 5
STORED, SIMILAR, WRITTEN = "stored", "similar", "written"


@dataclass(frozen=True)
class FoundCaption:
    """One caption of one image, the best first; rank counts from 1.

    origin   "stored": a caption of the collection, by its own vector; score is its cosine to the image.
             "similar": a caption of a similar image; score is that of the two images.
             "written": by the encoder, a CoCa model; score as for "stored"
    id       of the image that the caption belongs to, as path is; None for a written one
    """

    image: str
    rank: int
    score: float
    caption: str
    origin: str
    id: str | None = None
    path: str | None = None

    def to_json(self) -> dict[str, Any]:
        known = {name: value for name, value in vars(self).items() if value is not None}
        return {**known, "score": round(self.score, 6)}


def caption_images(
    collection: Collection, images: Sequence[NamedImage], k: int | None = None, *, write: bool | None = None
) -> list[FoundCaption]:
    """The captions that fit each image best, image after image.

    k      captions of the collection for each image; None means 5, or all if there are fewer
    write  True: only let the encoder write one. False: only look among those of the collection.
           None: both, where there are both; the written one comes first

    Captions without vectors are found by way of similar images. Raises QueryError if there are no
    captions, or the encoder cannot write any; and for an image that cannot be read.
    """
    encoder = collection.load_encoder()
    writes = getattr(encoder, "writes_captions", False)
    if write and not writes:
        raise QueryError(
            f"{collection.manifest.encoder.name} writes no captions; CoCa models do, such as coca_ViT-B-32. Without "
            "--write, captions of the collection are looked through."
        )
    stored, embedded = collection.catalog.captions.counts()
    if not write and not stored and (write is False or not writes):
        raise QueryError(
            f"{collection.path} holds no captions to choose from. Index a source that has some: retrieval index SOURCE "
            f"--with-captions -o {collection.path}"
        )
    found = []
    for image in images:
        vector = image.vector(collection, encoder)
        captions = []
        if writes and write is not False:
            (written,) = encoder.write_captions([image.open(getattr(encoder, "input_size", None))])
            captions.append((float(vector @ encoder.encode_texts([written])[0]), written, WRITTEN))
        if stored and not write:
            look = _nearest if embedded else _of_similar_images
            captions += look(collection, vector, k or DEFAULT_K)
        found += [FoundCaption(image.name, rank, *one) for rank, one in enumerate(captions, 1)]
    return found


def _nearest(collection: Collection, vector: np.ndarray, k: int) -> list[tuple]:
    """Each text once: images with the same caption share it."""
    n = collection.catalog.captions.counts()[1]
    asked = min(k, n)
    while True:
        hits = collection.search_vectors([""], vector[None], asked, within=CAPTIONS)
        texts = {hit.caption: hit for hit in reversed(hits)}  # the first of each
        if len(texts) >= k or asked == n:
            best = sorted(texts.values(), key=lambda hit: hit.rank)[:k]
            return [(hit.score, hit.caption, STORED, hit.id, hit.path) for hit in best]
        asked = min(4 * asked, n)


def _of_similar_images(collection: Collection, vector: np.ndarray, k: int) -> list[tuple]:
    captions = collection.catalog.captions
    n, asked = len(collection), k
    while True:
        asked = min(asked, n)
        hits = collection.search_vectors([""], vector[None], asked)
        found = [(hit.score, text, SIMILAR, hit.id, hit.path) for hit in hits
                 for text in captions.of_path(hit.path)]
        if len(found) >= k or asked == n:
            return found[:k]
        asked *= 4
