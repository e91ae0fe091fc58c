"""`builtin-multilingual`: images as the built-in encoder sees them, and texts in 16 languages."""

from __future__ import annotations

from dataclasses import replace
from typing import Sequence

import numpy as np

from retrieval.encoders.builtin import load_model
from retrieval.encoders.openclip import OpenClipEncoder
from retrieval.encoders.sentence_tower import SentenceTower, fingerprint


class MultilingualEncoder(OpenClipEncoder):
    """Images go through torch; texts through numpy, on the CPU."""

    def __init__(
        self, *, device: str = "auto", precision: str = "auto", exact_preprocess: bool = False, compile: bool = False,
    ):
        """Raises WeightsError if a file is missing or altered, EncoderError as `OpenClipEncoder` does."""
        self._texts = SentenceTower()  # before the rest, which asks for a text's vector
        super().__init__(
            replace(load_model(), name=self._texts.name),
            device=device, precision=precision, exact_preprocess=exact_preprocess, compile=compile,
        )
        self.fingerprint = fingerprint(self.fingerprint)
        del self._model.text  # English only

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._texts.encode_texts(texts)
