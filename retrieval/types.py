"""The few shapes that every room shares."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Sequence, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

IMAGES, CAPTIONS = "images", "captions"  # what can be searched
SUM, PRODUCT, SLERP = FUSIONS = ("sum", "product", "slerp")  # see `retrieval.fusion.fuse`


@runtime_checkable
class TextEncoder(Protocol):
    """The half of an encoder that embeds texts, into the same space."""

    name: str
    dim: int
    fingerprint: str

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts: (n, d)."""


@runtime_checkable
class Encoder(TextEncoder, Protocol):
    """Two towers into one space. Outputs are always float32 (n, d), C-contiguous, unit rows.

    name         what the user would pass to --model to get this encoder again
    dim          d
    fingerprint  identifies weights, preprocessing and tokenizer; equal fingerprints mean
                 that vectors of the two encoders may be compared
    input_size   may be absent or None: pixels that `prepare` resizes an image's shorter side to,
                 at most; images need not be decoded much larger than that (see
                 `retrieval.images.open_image`, at_least)
    batch_size   may be absent: how many images at once keep its device busy
    is_fast      may be absent or False: takes images faster than threads can decode them
    pixels_of    may be absent or None: what `prepare` does, in a form that can be pickled and returns an
                 array, which `encode_prepared` takes as well; needs no torch
    logit_scale  may be absent: what training multiplied cosines by
    relevance    may be absent: (image, text vector) to what each position contributes, see
                 `retrieval.encoders.relevance`
    writes_captions  may be absent or False: whether `write_captions` (images to sentences) works
    """

    def prepare(self, image: Image.Image) -> Any:
        """Preprocess one upright RGB image for `encode_prepared`; safe to call from threads."""

    def encode_prepared(self, prepared: Sequence[Any]) -> np.ndarray:
        """Embed what `prepare` returned: (n, d)."""

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Embed upright RGB images: (n, d)."""


@dataclass(frozen=True)
class Hit:
    """One ranked match of one query. rank counts from 1; score is a cosine, larger is better.

    caption       the caption that was found, id and path being its image's; None where images are searched
    relevance     how likely the image is meant at all, 0 to 1; None, as the next two, unless asked for
    rerank_score  by whose order the hits come; None also for those that were not looked at again
    duplicates    how many further results were the same picture, at least: far worse ones are not looked for
    line          of a batch, from 1, that asked; None elsewhere
    """

    query: str
    rank: int
    score: float
    id: str
    path: str
    caption: str | None = None
    relevance: float | None = None
    rerank_score: float | None = None
    duplicates: int | None = None
    line: int | None = None

    def as_json(self) -> dict[str, Any]:
        """One record of `retrieval search --json` and of `retrieval serve`; six digits of a fraction."""
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items() if value is not None
        }
