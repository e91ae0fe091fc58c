"""`retrieval train --task match` from start to end: pairs, tower tokens, loop, folder."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy as np
from numpy.lib.format import open_memmap

from retrieval import __version__
from retrieval.encoders.tokens import MOST_WORDS, TowerTokens
from retrieval.errors import TrainingError
from retrieval.files import cache_folder
from retrieval.rank.cross_encoder import save_cross_encoder
from retrieval.reading import DECODE_THREADS
from retrieval.train.heap import freed_memory_kept
from retrieval.train.match import LEAST_IMAGES, MatchExamples, MatchSettings, Progress, train_match
from retrieval.train.match_weight import Lift, chosen_weight
from retrieval.train.pairs import Pairs, Photo, held_out_photos, refuse_equal_captions
from retrieval.types import Encoder

_PHOTOS_AT_ONCE, _TEXTS_AT_ONCE = 64, 256


@dataclass(frozen=True)
class MatchOutcome:
    """photos, captions: learned from. held_out: what it is worth on others, None where there were none."""

    photos: int
    captions: int
    parameters: int
    held_out: Lift | None


def train_cross_encoder(
    pairs: Pairs, output: Path, settings: MatchSettings, encoder: Encoder, *, held_out: int = 0,
    on_photos: Callable[[int], None] = lambda count: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> MatchOutcome:
    """Train one on the encoder's towers and write its folder.

    held_out  photos to choose the weight of its scores by, and to see whether it helps; they tell the
              truth only if the encoder has not learned from them either

    The towers' tokens of photos lie in the cache folder, about 125 kB each; those of captions in memory, 25 kB each.
    Raises TrainingError, EncoderError for towers whose tokens are not known; OSError.
    """
    parts = held_out_photos(len(pairs.photos), held_out, settings.seed)
    if len(parts[0]) < LEAST_IMAGES:
        raise TrainingError(
            f"{len(parts[0])} captioned images are too few to train a cross-encoder on; {LEAST_IMAGES} are the least"
            f"{', beside those of --held-out' if held_out else ''}."
        )
    refuse_equal_captions(pairs)
    output.mkdir(parents=True, exist_ok=True)  # before the long work, so that it fails early
    tokens = TowerTokens(encoder)
    photos = _photos(pairs, encoder, tokens, on_photos)
    examples, apart = (_examples(pairs, part, *photos, encoder, tokens) for part in parts)
    with freed_memory_kept():
        model = train_match(examples, settings, on_progress=on_progress)
    lift = chosen_weight(model, apart, seed=settings.seed) if held_out else None
    parameters = sum(one.numel() for one in model.parameters())
    outcome = MatchOutcome(len(parts[0]), len(examples.owners), parameters, lift)
    identity = hashlib.sha256(b"".join(one.detach().numpy().tobytes() for one in model.parameters())).hexdigest()[:24]
    save_cross_encoder(output, model, encoder, identity, {
        "software": f"crossmodal-retrieval {__version__}", "settings": asdict(settings), **asdict(outcome),
    }, 1.0 if lift is None else lift.weight)
    return outcome


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Some rows of an array, read when they are asked for."""

    array: np.ndarray
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.array.shape[1:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        return self.array[self.rows[key]]


def _photos(
    pairs: Pairs, encoder: Encoder, tokens: TowerTokens, on_photos: Callable[[int], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (n, d) of all photos, and tokens (n, p, image width) float16, mapped from the cache."""
    key = hashlib.sha256("\0".join([encoder.fingerprint, *(photo.digest for photo in pairs.photos)]).encode()).hexdigest()[:24]
    folder = cache_folder() / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    images = np.empty((len(pairs.photos), encoder.dim), np.float32)
    places = _kept(folder / f"{key}.npy")
    fresh = places is None
    beside = folder / f"{key}.tmp.npy"
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        for start in range(0, len(pairs.photos), _PHOTOS_AT_ONCE):
            part = slice(start, start + _PHOTOS_AT_ONCE)
            prepared = list(pool.map(lambda photo: _prepared(photo, encoder), pairs.photos[part]))
            images[part] = encoder.encode_prepared(prepared)
            if fresh:
                cells = tokens.of_images(prepared).numpy()
                if places is None:
                    places = open_memmap(beside, "w+", np.float16, (len(pairs.photos), *cells.shape[1:]))
                places[part] = cells
            on_photos(len(prepared))
    if fresh:
        places.flush()
        beside.replace(folder / f"{key}.npy")
    return images, places


def _examples(
    pairs: Pairs, chosen: np.ndarray, images: np.ndarray, places: np.ndarray, encoder: Encoder, tokens: TowerTokens
) -> MatchExamples | None:
    """Of the chosen photos (m,) and their captions; None of no photos. images, places: of all"""
    if not len(chosen):
        return None
    captions = [text for one in chosen for text in pairs.captions[one]]
    owners = np.repeat(np.arange(len(chosen)), [len(pairs.captions[one]) for one in chosen])
    words, there = _words(captions, tokens)
    return MatchExamples(
        _Chosen(places, chosen), words, there, owners, images[chosen], encoder.encode_texts(captions), *tokens.projections()
    )


def _words(captions: Sequence[str], tokens: TowerTokens) -> tuple[np.ndarray, np.ndarray]:
    words, there = None, np.zeros((len(captions), MOST_WORDS), bool)
    for start in range(0, len(captions), _TEXTS_AT_ONCE):
        states, known = tokens.of_texts(captions[start : start + _TEXTS_AT_ONCE])
        b, w, width = states.shape
        if words is None:
            words = np.zeros((len(captions), MOST_WORDS, width), np.float16)
        words[start : start + b, :w] = states.numpy()
        there[start : start + b, :w] = known.numpy()
    return words, there


def _kept(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None


def _prepared(photo: Photo, encoder: Encoder) -> Any:
    return encoder.prepare(photo.open(getattr(encoder, "input_size", None)))
