"""Distillation: what another, larger encoder says of the same photos and captions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import numpy as np
import torch

from retrieval.reading import DECODE_THREADS
from retrieval.train.batches import Batch
from retrieval.train.pairs import Pairs
from retrieval.types import Encoder

_AT_ONCE = 256


class Teacher:
    """Unit vectors of a teacher, made once, for photos as they are."""

    def __init__(self, images: np.ndarray, captions: np.ndarray, scale: float):
        """images (n, d) and captions (m, d) float32 unit rows, in the order of the pairs; scale: its logit scale."""
        self._images, self._captions = torch.from_numpy(images), torch.from_numpy(captions)
        self.scale = scale

    def rows(self, batch: Batch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Its vectors of a batch's photos (n, d) and captions (m, d)."""
        return (self._images[torch.as_tensor(batch.photos)].to(device),
                self._captions[torch.as_tensor(batch.captions)].to(device))


def ask(encoder: Encoder, pairs: Pairs, progress: Callable[[int], None] = lambda count: None) -> Teacher:
    """Raises TrainingError naming a photo that cannot be read."""
    parts = []
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        for start in range(0, len(pairs.photos), _AT_ONCE):
            prepared = list(pool.map(lambda photo: encoder.prepare(photo.open()), pairs.photos[start : start + _AT_ONCE]))
            parts.append(encoder.encode_prepared(prepared))
            progress(len(prepared))
    captions = encoder.encode_texts([text for texts in pairs.captions for text in texts])
    return Teacher(np.concatenate(parts), captions, float(getattr(encoder, "logit_scale", 100.0)))
