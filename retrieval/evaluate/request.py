"""What one benchmark is to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval.evaluate.scores import K, Sampling
from retrieval.evaluate.subject import Captioning


@dataclass(frozen=True)
class Request:
    """What to measure, as the command line's options say it.

    models       none: the collection's own, or the default
    default      model for images that are not a collection; None: the automatic choice
    indexes      FAISS factory strings; none: the collection's own
    judgements   qrels file that says alone what is right; extra: one of further right answers
    failures     how many of the worst queries to keep, of each direction and language
    calibrated   measure also what calibration makes of searches, where there is one
    thresholds   also measure `search --min-score auto`
    rerank       also measure what `search --rerank` makes of searches, by this encoder or cross-encoder
    """

    target: str
    captioning: Captioning = Captioning()
    root: Path | None = None
    models: tuple[str, ...] = ()
    default: str | None = None
    indexes: tuple[str, ...] = ()
    ks: tuple[int, ...] = K
    judgements: Path | None = None
    extra: Path | None = None
    strict: bool = False
    failures: int = 0
    published: bool = False
    thresholds: bool = False
    rerank: str | None = None
    sampling: Sampling = Sampling()
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    exact_preprocess: bool = False
    calibrated: bool = True
