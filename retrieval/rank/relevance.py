"""How likely an image is meant at all: its score against what captions of anything reach here.

Scores of different encoders, and of different collections, are not comparable: something always comes
first, and in a large collection it scores higher. What 264 captions of everyday things reach, most of
which the collection does not show, says what a best score is worth where there is nothing to find. That
needs no parameters, so it is the same for every encoder.

Chosen on Flickr8k's training photos, built-in encoder. A query's own mean and spread over the collection
add nothing worth having (area under the ROC curve 0.775 without, 0.779 with them). A logistic curve fitted
to captions whose photo is there and others whose is not asks too much elsewhere, for the encoder knows
those photos: on the test split it showed 4 of 10 queries with a match anything, where this shows 8.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np

from indexes import Matches
from retrieval.files import cache_folder, write_atomically
from retrieval.types import TextEncoder

_BACKGROUND = Path(__file__).with_name("background.txt")


@dataclass(frozen=True)
class RelevanceModel:
    """best: (b,) ascending, the best score of each background caption in a collection."""

    best: np.ndarray

    def of(self, scores: np.ndarray) -> np.ndarray:
        """Relevance in [0, 1] of texts' scores (n,): the share of background captions that reach less."""
        return np.searchsorted(self.best, scores) / len(self.best)


def relevance_model(search: Callable[[np.ndarray, int], Matches], encoder: TextEncoder) -> RelevanceModel:
    """Of a collection. A sample of it would not do: the best of more images scores higher.

    search  (vectors (q, d), k) to what is found of its images, the way queries find theirs
    """
    return RelevanceModel(np.sort(search(background_vectors(encoder), 1).scores[:, 0]))


def background() -> list[str]:
    """Captions of things that photos and other pictures show."""
    return _BACKGROUND.read_text(encoding="utf-8").splitlines()


def background_vectors(encoder: TextEncoder) -> np.ndarray:
    """Vectors of `background` (b, d), kept in the cache folder by the encoder's fingerprint."""
    captions = background()
    name = hashlib.sha256("\0".join([encoder.fingerprint, *captions]).encode()).hexdigest()[:24]
    path = cache_folder() / "background" / f"{name}.npy"
    with suppress(OSError, ValueError, EOFError):  # not there yet, or damaged
        return np.load(path)
    vectors = encoder.encode_texts(captions)
    with suppress(OSError):  # then they are made again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.save(content, vectors)
        write_atomically(path, content.getvalue())
    return vectors
