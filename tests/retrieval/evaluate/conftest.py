"""Evaluations of vectors that are written down, so that every rank can be told by looking."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from retrieval.corpus.captions import CaptionSet
from retrieval.evaluate.evaluation import evaluate_task
from retrieval.evaluate.scores import Sampling
from retrieval.evaluate.task import make_task


def at(angles):
    """Unit vectors in the plane at these angles in degrees, (n, 2): the nearer two, the higher the score."""
    radians = np.radians(np.array(list(angles), np.float64))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


@pytest.fixture
def compared():
    """compared({"a.png": 0}, {Caption("a.png", "a text"): 1}) evaluates images and captions at these angles."""

    def evaluate(images, captions, *, model="compass", ks=(1, 5, 10), biases=None, **options):
        read = CaptionSet(list(captions), "table", 0, Path("captions.tsv"))
        task = make_task(read, list(images), **options)
        angles = {caption.text: angle for caption, angle in captions.items()}
        collection = SimpleNamespace(
            catalog=SimpleNamespace(indexed=lambda: [(name, row) for row, name in enumerate(images)]),
            vectors=SimpleNamespace(take=lambda rows: at(images.values())[rows]),
            biases=lambda: biases,
        )
        encoder = SimpleNamespace(name=model, encode_texts=lambda texts: at(angles[text] for text in texts))
        return evaluate_task(collection, task, encoder=encoder, ks=ks, sampling=Sampling(resamples=100))

    return evaluate
