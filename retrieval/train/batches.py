"""A stream of batches: the same for the same seed, whatever threads and processes make it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from retrieval.errors import TrainingError
from retrieval.reading import DECODE_THREADS, give_way
from retrieval.train.augment import NONE, Augmentation, allows_flip
from retrieval.train.pairs import Pairs, refuse_equal_captions

Item = TypeVar("Item")
# More hold the interpreter's lock so often that learning waits for it: beside an H200, 225 images/s with 17 and
# 470 with 4.
_THREADS = min(4, DECODE_THREADS)


@dataclass(frozen=True, eq=False)
class Batch:
    """Photos and texts of a step of one process.

    photos    (n,) int64, positions in the pairs, all different
    pixels    (n, 3, height, width) as the encoder's `prepare` gives them; or what frozen layers gave
    kept      whether it is that
    texts     m of them
    captions  (m,) int64, their numbers among all captions: first those of photo 0, then of photo 1, ...
    owners    (m,) int64: texts[j] belongs to pixels[owners[j]]
    """

    photos: torch.Tensor
    pixels: torch.Tensor
    texts: list[str]
    captions: torch.Tensor
    owners: torch.Tensor
    kept: bool = False


@dataclass(frozen=True)
class _Sample:
    photo: int
    pixels: torch.Tensor
    texts: list[str]
    captions: list[int]


class Batches:
    """All photos once in an epoch, in an order of its own, but for a rest too small for a batch."""

    def __init__(
        self, pairs: Pairs, prepare: Callable[[Image.Image], Any], *, batch_size: int, seed: int,
        augmentation: Augmentation = NONE, captions_per_photo: int = 1, at_least: int | None = None,
        kept: Sequence[np.ndarray] | None = None, rank: int = 0, world: int = 1, threads: int | None = None,
        for_gpu: bool = False,
    ):
        """
        prepare             of the encoder: an RGB image to a tensor (3, height, width), uint8 or float32
        batch_size          photos in a batch of one process
        captions_per_photo  drawn for each photo in each epoch, or as many as it has; 0: all
        at_least            pixels that `prepare` makes of the shorter side: photos may be decoded
                            smaller than they are; None decodes them in full
        kept                what frozen layers of the image tower gave, photos in front, for each of some views:
                            one is drawn instead of decoding; `prepare` and the image's augmentation are then not used
        rank, world         which process this is, and of how many
        threads             to decode with; None: as many as the processor suggests
        for_gpu             batches lie in memory that a GPU copies from by itself, and each is put together
                            while the one before is learned from

        Raises TrainingError if there are too few photos for a step, or only one caption for all.
        """
        self.steps = steps_in_epoch(pairs, batch_size, world)
        self._pairs, self._prepare, self._augmentation = pairs, prepare, augmentation
        self._batch_size, self._captions_per_photo = batch_size, captions_per_photo
        # A crop is to have as many pixels to spare as the whole would.
        self._at_least = at_least and round(at_least / augmentation.crop**0.5)
        self._for_gpu = for_gpu
        self._seed, self._rank, self._world, self._kept = seed, rank, world, kept
        self._threads = _THREADS if threads is None else threads
        counts = np.array([len(texts) for texts in pairs.captions])
        self._firsts = (counts.cumsum() - counts).tolist()  # number of each photo's first caption

    def epoch(self, number: int, first_step: int = 0) -> Iterator[Batch]:
        """This process's batches of an epoch, from a step on.

        They are decoded ahead by at most one batch, for a GPU two; the threads end when the iterator does or is
        closed. Raises TrainingError that names a photo that cannot be read, when its turn comes.
        """
        if not 0 <= first_step <= self.steps:
            raise TrainingError(f"Epoch {number} has no step {first_step}: it has {self.steps}.")
        batches = self._batches(number, first_step)
        return made_ahead(batches) if self._for_gpu else batches

    def _batches(self, number: int, first_step: int) -> Iterator[Batch]:
        order = np.random.default_rng([self._seed, number]).permutation(len(self._pairs.photos))
        whole = order[: self.steps * self._world * self._batch_size]
        own = whole.reshape(self.steps, self._world, self._batch_size)[first_step:, self._rank]  # (steps, n)
        with closing(self._samples(own.ravel().tolist(), number)) as samples:
            for _ in own:
                yield self._batch(samples)

    def _samples(self, photos: list[int], number: int) -> Iterator[_Sample]:
        waiting: deque[Future[_Sample]] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="augment", initializer=give_way)
        try:
            for photo in photos:
                waiting.append(pool.submit(self._sample, photo, number))
                if len(waiting) > self._batch_size:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _sample(self, photo: int, number: int) -> _Sample:
        # A source of its own for each photo: results must not depend on which thread is faster.
        chance = random.Random(f"{self._seed}/{number}/{photo}")
        own = self._pairs.captions[photo]
        chosen = list(range(len(own)))
        if 0 < self._captions_per_photo < len(own):
            chosen = sorted(chance.sample(chosen, self._captions_per_photo))
        texts = [own[place] for place in chosen]
        if self._kept is None:
            image = self._pairs.photos[photo].open(self._at_least)
            pixels = self._prepare(self._augmentation.image(image, allows_flip(texts), chance))
        else:
            pixels = torch.from_numpy(np.array(self._kept[chance.randrange(len(self._kept))][photo]))
        return _Sample(
            photo,
            pixels,
            [self._augmentation.text(text, chance) for text in texts],
            [self._firsts[photo] + place for place in chosen],
        )

    def _batch(self, samples: Iterator[_Sample]) -> Batch:
        photos, texts, captions, owners = [], [], [], []
        for place in range(self._batch_size):
            sample = next(samples)
            one = sample.pixels
            if place == 0:
                # Laid out as they come: turning that around takes twice as long.
                channels_last = one.ndim == 3 and one.stride(0) == 1
                layout = torch.channels_last if channels_last else torch.contiguous_format
                pixels = torch.empty((self._batch_size, *one.shape), dtype=one.dtype, memory_format=layout, pin_memory=self._for_gpu)
            # numpy copies in this thread alone, and leaves the other cores to decoding.
            pixels.numpy()[place] = one.numpy()
            photos.append(sample.photo)
            texts += sample.texts
            captions += sample.captions
            owners += [place] * len(sample.texts)
        return Batch(torch.tensor(photos), pixels, texts, torch.tensor(captions), torch.tensor(owners),
                     kept=self._kept is not None)


def steps_in_epoch(pairs: Pairs, batch_size: int, world: int = 1) -> int:
    """Raises TrainingError as `Batches` does."""
    n, together = len(pairs.photos), batch_size * world
    if n < together:
        wanted = f"a batch of {together:,}"
        if world > 1:
            wanted = f"the {together:,} that {world} processes with {batch_size:,} each take in a step"
        advice = "Take a smaller batch" + (", or fewer processes" if world > 1 else "")
        raise TrainingError(f"{n:,} photos are fewer than {wanted}. {advice}.")
    refuse_equal_captions(pairs)
    return n // together


def made_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, none of them None; each is made in a thread while the one before is used."""
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        following = pool.submit(next, items, None)
        while (item := following.result()) is not None:
            following = pool.submit(next, items, None)
            yield item
