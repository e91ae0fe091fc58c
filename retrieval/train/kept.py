"""What frozen layers say of photos and captions, kept for all epochs of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Kept:
    """All of it float16; None of what runs in every epoch.

    views        for each view of the photos learned from, them in front; of a whole tower or of its first layers
    front        names of those layers; empty for a whole tower up to its projection
    texts        (m, width) of a whole text tower; maybe mapped from disk
    text_rows    (captions,) int64: where there each caption learned from stands
    photos_apart, texts_apart  (n, width) of whole towers, of photos held out as they are and of their captions
    """

    views: list[np.ndarray] | None = None
    front: tuple[str, ...] = ()
    texts: np.ndarray | None = None
    text_rows: np.ndarray | None = None
    photos_apart: np.ndarray | None = None
    texts_apart: np.ndarray | None = None
