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
from retrieval.files import cache_folder
from retrieval.rank.cross_encoder import save_cross_encoder
from retrieval.reading import DECODE_THREADS
from retrieval.train.heap import freed_memory_kept
from retrieval.train.match import MatchExamples, MatchSettings, Progress, train_match
from retrieval.train.match_weight import Lift, chosen_weight
from retrieval.train.pairs import Pairs, Photo, hold_out, refuse_equal_captions
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
    pairs, apart = hold_out(pairs, held_out, settings.seed)
    refuse_equal_captions(pairs)
    output.mkdir(parents=True, exist_ok=True)  # before the long work, so that it fails early
    tokens = TowerTokens(encoder)
    examples = _examples(pairs, encoder, tokens, on_photos)
    others = _examples(apart, encoder, tokens, on_photos) if held_out else None
    with freed_memory_kept():
        model = train_match(examples, settings, on_progress=on_progress)
    lift = None if others is None else chosen_weight(model.eval(), others, seed=settings.seed)
    parameters = sum(one.numel() for one in model.parameters())
    outcome = MatchOutcome(len(pairs.photos), len(examples.owners), parameters, lift)
    identity = hashlib.sha256(b"".join(one.detach().numpy().tobytes() for one in model.parameters())).hexdigest()[:24]
    save_cross_encoder(output, model, encoder, identity, {
        "software": f"crossmodal-retrieval {__version__}", "settings": asdict(settings), **asdict(outcome),
    }, 1.0 if lift is None else lift.weight)
    return outcome


def _examples(
    pairs: Pairs, encoder: Encoder, tokens: TowerTokens, on_photos: Callable[[int], None]
) -> MatchExamples:
    captions = [text for texts in pairs.captions for text in texts]
    owners = np.repeat(np.arange(len(pairs.photos)), [len(texts) for texts in pairs.captions])
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
    words, there = _words(captions, tokens)
    return MatchExamples(
        places, words, there, owners, images, encoder.encode_texts(captions), *tokens.projections()
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
