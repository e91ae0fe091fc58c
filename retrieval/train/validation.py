"""Recall over photos held out of training, as an encoder would find them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Iterator, Protocol, Sequence

import numpy as np
import torch

from retrieval.encoders.batches import images_at_once
from retrieval.metrics import Relevance, hit_rate, relevant_ranks
from retrieval.reading import DECODE_THREADS
from retrieval.train.kept import Kept
from retrieval.train.pairs import Pairs

KS = (1, 5, 10)
BATCH = 128
Recalls = dict[str, dict[str, float]]  # R@1, R@5, R@10 in percent by direction


def recalls(images: np.ndarray, captions: np.ndarray, counts: np.ndarray) -> Recalls:
    """R@k in both directions.

    images    (n, d) float32 unit rows
    captions  (m, d) float32 unit rows, all of image 0, then of image 1, ...
    counts    (n,) captions of each image
    """
    owner = np.repeat(np.arange(len(counts)), counts)  # (m,)
    own = np.arange(len(owner))
    ranks = {
        "text_to_image": relevant_ranks(captions, images, Relevance.from_pairs(own, owner, n_queries=len(owner))),
        "image_to_text": relevant_ranks(images, captions, Relevance.from_pairs(owner, own, n_queries=len(counts))),
    }
    return {
        direction: {f"R@{k}": round(100 * float(np.nanmean(hit_rate(found, k))), 1) for k in KS}
        for direction, found in ranks.items()
    }


def mean_recall(found: Recalls) -> float:
    """One number to choose by: the mean of all R@k, in percent."""
    return float(np.mean([value for scores in found.values() for value in scores.values()]))


class Validation:
    """Photos and captions held out, prepared once."""

    def __init__(
        self, pairs: Pairs, prepare: Callable, tokenize: Callable[[list[str]], torch.Tensor], kept: Kept = Kept()
    ):
        """
        prepare  an upright image to pixels (3, h, w)
        kept     what whole frozen towers said, if they did

        Raises TrainingError naming a photo that cannot be read.
        """
        self._counts = np.array([len(texts) for texts in pairs.captions])
        self._said_of_photos, self._said_of_texts = map(_tensor, (kept.photos_apart, kept.texts_apart))
        if self._said_of_photos is None:
            with ThreadPoolExecutor(DECODE_THREADS) as pool:
                self._pixels = list(pool.map(lambda photo: prepare(photo.open()), pairs.photos))
        if self._said_of_texts is None:
            self._tokens = tokenize([text for texts in pairs.captions for text in texts])  # (m, t)

    def __call__(self, embed: Embedding) -> Recalls:
        """embed: as `Learner` does."""
        with torch.inference_mode():
            if self._said_of_photos is None:
                images = [embed.embed_images(torch.stack(part)) for part in _parts(self._pixels, images_at_once(embed.device))]
            else:
                images = [embed.embed_kept(part) for part in self._said_of_photos.split(BATCH)]
            if self._said_of_texts is None:
                captions = [embed.embed_texts(part) for part in self._tokens.split(BATCH)]
            else:
                captions = [embed.embed_kept_texts(part) for part in self._said_of_texts.split(BATCH)]
            return recalls(_rows(images), _rows(captions), self._counts)


class Embedding(Protocol):
    """What turns photos and captions, or what frozen towers said of them, into unit rows (n, d)."""

    device: torch.device

    def embed_images(self, pixels: torch.Tensor) -> torch.Tensor: ...
    def embed_kept(self, outputs: torch.Tensor) -> torch.Tensor: ...
    def embed_texts(self, tokens: torch.Tensor) -> torch.Tensor: ...
    def embed_kept_texts(self, outputs: torch.Tensor) -> torch.Tensor: ...


def _tensor(said: np.ndarray | None) -> torch.Tensor | None:
    return None if said is None else torch.from_numpy(said)


def _parts(pixels: Sequence[torch.Tensor], n: int) -> Iterator[Sequence[torch.Tensor]]:
    return (pixels[start : start + n] for start in range(0, len(pixels), n))


def _rows(parts: Sequence[torch.Tensor]) -> np.ndarray:
    return torch.cat([part.float().cpu() for part in parts]).numpy()
