"""Moving pictures: which frames of animations and videos become documents of their own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator

from retrieval.corpus.addresses import at_time, of_frame
from retrieval.corpus.found import FoundImage, Scan
from retrieval.errors import ImageError
from retrieval.images.frames import ANIMATED_SUFFIXES, count_frames
from retrieval.images.video import duration

SECONDS_BETWEEN = 10.0  # for a video that is given by its name
_THREADS = min(8, (os.cpu_count() or 1) + 1)  # waiting for the disk, mostly


def sample(found: Scan, frames: int = 1, video_every: float | None = None) -> Scan:
    """Replace animations and videos by their frames; no picture is decoded yet.

    frames       of each animation, at most, spread evenly over it; with 1 it stays one image
    video_every  seconds between the frames of a video, of which the first is always one. None
                 passes over videos in folders, and samples those given by name every 10 seconds.

    A video that cannot be opened becomes unreadable.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="sample") as pool:
        images = found.images
        if frames > 1:
            images = [one for some in pool.map(lambda image: _spread(image, frames), images) for one in some]
        wanted, passed_over = _parted(found, video_every is not None)
        sampled = list(pool.map(lambda video: _every(video, video_every or SECONDS_BETWEEN), wanted))
    unreadable = [
        (video.state.path, some) for video, some in zip(wanted, sampled) if isinstance(some, str)
    ]
    images = images + [one for some in sampled if not isinstance(some, str) for one in some]
    return replace(found, images=images, unreadable=found.unreadable + unreadable, videos=passed_over)


def told_passed_over(videos: int) -> str:
    """The sentence that tells of them."""
    counted = "1 video was" if videos == 1 else f"{videos} videos were"
    return f"{counted} passed over; --video-every 10 samples a frame each 10 seconds."


def _parted(found: Scan, all_of_them: bool) -> tuple[list[FoundImage], list[FoundImage]]:
    """Videos to sample, those given by name at least, and the others."""
    given = {str(root) for root in found.roots}
    wanted, others = [], []
    for video in found.videos:
        (wanted if all_of_them or video.state.path in given else others).append(video)
    return wanted, others


def _spread(image: FoundImage, most: int) -> list[FoundImage]:
    path = Path(image.state.path)
    if path.suffix.lower() not in ANIMATED_SUFFIXES or not path.is_file():
        return [image]
    count = count_frames(path)
    if count == 1:
        return [image]
    # Not the last one: an animation that repeats ends where it begins.
    picked = range(count) if count <= most else [index * count // most for index in range(most)]
    return [_within(image, lambda name: of_frame(name, number)) for number in picked]


def _every(video: FoundImage, seconds: float) -> list[FoundImage] | str:
    """A frame each so many seconds; or the reason why there is none."""
    try:
        end = duration(Path(video.state.path))
    except ImageError as error:
        return str(error)
    return [_within(video, lambda name: at_time(name, time)) for time in _times(end, seconds)]


def _times(end: float, step: float) -> Iterator[float]:
    yield 0.0
    index = 1
    while index * step < end:
        yield index * step
        index += 1


def _within(whole: FoundImage, addressed: Callable[[str], str]) -> FoundImage:
    """A frame of the file: found where the file is, and changed when the file is."""
    state = replace(whole.state, path=addressed(whole.state.path))
    return replace(whole, state=state, relative=addressed(whole.relative))
