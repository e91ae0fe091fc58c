"""Photos and their captions: of any source that `retrieval index` takes, or of a data set by its name."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from PIL import Image

from retrieval.corpus import addresses
from retrieval.corpus.captions import match_captions, read_captions
from retrieval.corpus.datasets import DATASETS, load_dataset
from retrieval.corpus.found import distinct_name
from retrieval.corpus.layouts import Caption
from retrieval.corpus.scanning import expanded, scan
from retrieval.corpus.tables import TableOptions, is_table
from retrieval.errors import CaptionsError, CorpusError, DatasetError, ImageError, TrainingError, reason_of
from retrieval.images import check_header, open_image
from retrieval.reading import DECODE_THREADS

_MOST_NAMED = 5  # of what is missing


@dataclass(frozen=True)
class Photo:
    """A photo by name. Its methods are safe to call from threads, and raise TrainingError that names it."""

    name: str
    read: Callable[[], bytes]  # may raise ImageError, OSError

    def content(self) -> bytes:
        """Its file."""
        try:
            return self.read()
        except (ImageError, OSError) as error:
            raise self._fault(error) from error

    @cached_property
    def digest(self) -> str:
        """Of its file, which is read once for it: copies have the same. What is no image by its header has none."""
        content = self.content()
        try:
            check_header(content)
        except ImageError as error:
            raise self._fault(error) from error
        return hashlib.blake2b(content, digest_size=12).hexdigest()

    def open(self, at_least: int | None = None) -> Image.Image:
        """Decoded upright, as sRGB; what else its file says, of places and people, stays in the file.

        at_least  as `open_image` takes it
        """
        try:
            return open_image(self.content(), at_least=at_least)[0]
        except ImageError as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> TrainingError:
        return TrainingError(f"{self.name}: {reason_of(error)}. Take it out and start again.")


@dataclass(frozen=True)
class Pairs:
    """Photos with at least one caption each, in order of their names; these, and their files, are all different.

    captions       captions[i] belong to photos[i]
    missing        how many captioned photos were not found, fit several, or cannot be opened; and what else could
                   not be read
    missing_names  the first few of them, with the reason where it is another
    """

    photos: list[Photo]
    captions: list[list[str]]
    missing: int
    missing_names: tuple[str, ...] = ()


def read_pairs(
    images: Path | str, captions: Path | None = None, *, split: str | None = None,
    tables: TableOptions = TableOptions(), root: Path | None = None,
) -> Pairs:
    """Find photos and join their captions to them; what has no caption is left out, and what cannot be opened.

    Copies of a photo become one, the first by name, with the captions of all: else some could be learned from
    while others are held out. To tell copies by digests, and by headers what can be opened, every captioned photo
    is read once, in threads: 5,000 small ones a second from this machine, from elsewhere as they come. One that
    fails only when it is decoded does so in its turn.

    images    a folder, archive, table or URI, or several as shards/{000..099}.tar; with `root` also the
              name of a data set
    captions  a captions file; None: those of the table, or of the files beside the photos
    split     of the captions file, table or data set; None: all of it
    tables    what a table does not say itself
    root      the folder that the data set was unpacked in

    Raises CorpusError, CaptionsError if there are no photos, no captions, none that match, or none that can be
    opened; MissingPackageError.
    """
    if root is not None and images in DATASETS:
        return _of_dataset(str(images), root, split)
    if captions is not None and str(captions).lower().endswith(".parquet"):  # a table, though no text
        return read_pairs(captions, split=split, tables=replace(tables, images=Path(images)))
    found = scan([images], replace(tables, split=None if captions else split))
    left_out = [f"{address} ({reason})" for address, reason in found.unreadable]
    if not found.images:
        reasons = f": {left_out[0]}" if left_out else ""
        more = f" and {len(left_out) - 1:,} more" if len(left_out) > 1 else ""
        raise CorpusError(f"{images} holds no images{reasons}{more}.")
    taken: set[str] = set()
    photos, own = [], {}
    for image in found.images:
        name = distinct_name(image, taken)
        taken.add(name)
        photos.append(Photo(name, partial(addresses.read, image.state.path)))
        own[name] = list(image.captions or ())
    photos.sort(key=lambda photo: photo.name)
    if captions is not None:
        return _matched(photos, read_captions(captions, split=split).captions, left_out)
    if split is not None and not all(is_table(str(one)) for one in expanded(images)):
        raise CaptionsError(f"{images} has no split '{split}': it is no table, so leave the split out.")
    if not any(own.values()):
        raise CaptionsError(
            f"None of the {len(photos):,} images of {images} has a caption of its own. Give a captions file: "
            "--captions FILE; or lay beach.txt beside beach.jpg."
        )
    return _captioned(photos, [own[photo.name] for photo in photos], left_out)


def hold_out(pairs: Pairs, count: int, seed: int) -> tuple[Pairs, Pairs]:
    """Part the photos by chance: those to train on, and `count` to validate with.

    Raises TrainingError if none would be left to train on.
    """
    learned, apart = held_out_photos(len(pairs.photos), count, seed)

    def part(chosen: np.ndarray) -> tuple[list[Photo], list[list[str]]]:
        return [pairs.photos[place] for place in chosen], [pairs.captions[place] for place in chosen]

    return Pairs(*part(learned), pairs.missing, pairs.missing_names), Pairs(*part(apart), 0)


def held_out_photos(n: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of n photos `hold_out` trains on and validates with: ascending int64, of n - count and count."""
    if not 0 <= count < n:
        raise TrainingError(f"{count:,} of {n:,} photos held out leave none to train on. Hold out fewer: --held-out N.")
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


def refuse_equal_captions(pairs: Pairs) -> None:
    """Raises TrainingError if there is only one caption for all photos."""
    different = {text for texts in pairs.captions for text in texts}
    if len(different) == 1:
        raise TrainingError(f"All captions are the same, '{different.pop()[:60]}', so there is nothing to tell photos by.")


def _of_dataset(name: str, root: Path, split: str | None) -> Pairs:
    if split is None:  # the reader's default is for measuring
        raise DatasetError(f"Which split of {name} is to be trained on? Say it, such as --split train, or all.")
    dataset = load_dataset(name, root, split=split)
    photos = sorted((Photo(one.name, one.read) for one in dataset.images), key=lambda photo: photo.name)
    return _matched(photos, dataset.captions.captions, [])


def _matched(photos: list[Photo], captions: Sequence[Caption], left_out: list[str]) -> Pairs:
    matched = match_captions(captions, [photo.name for photo in photos])
    texts: list[list[str]] = [[] for _ in photos]
    for text, position in zip(matched.texts, matched.documents.tolist()):
        texts[position].append(text)
    several = [f"{name} (fits several files)" for name in matched.ambiguous]
    return _captioned(photos, texts, [*matched.missing, *several, *left_out])


def _captioned(photos: list[Photo], texts: list[list[str]], left_out: list[str]) -> Pairs:
    captioned = [(photo, own) for photo, own in zip(photos, texts) if own]
    with ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="read") as pool:
        faults = list(pool.map(lambda one: _fault_of(one[0]), captioned))
    unreadable = [f"{photo.name} ({fault})" for (photo, _), fault in zip(captioned, faults) if fault]
    first: dict[str, Photo] = {}  # by digest
    of_all: dict[str, list[str]] = {}
    for (photo, own), fault in zip(captioned, faults):
        if not fault:
            first.setdefault(photo.digest, photo)
            known = of_all.setdefault(photo.digest, [])
            known += [text for text in own if text not in known]
    if not first:
        more = ", ..." if len(unreadable) > 1 else "."
        raise CorpusError(f"None of the {len(captioned):,} captioned photos can be opened: {unreadable[0]}{more}")
    left_out = [*left_out, *unreadable]
    return Pairs(list(first.values()), list(of_all.values()), len(left_out), tuple(left_out[:_MOST_NAMED]))


def _fault_of(photo: Photo) -> str | None:
    """Why it cannot be opened, as far as its header tells; afterwards its digest is known."""
    try:
        photo.digest
    except TrainingError as error:
        return reason_of(error.__cause__)
    return None
