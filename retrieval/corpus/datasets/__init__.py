"""Benchmark data sets as they lie on disk: which images compete, and which captions are theirs."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.corpus.captions import CaptionSet, in_languages
from retrieval.corpus.datasets import coco, flickr, multilingual, shards, table
from retrieval.corpus.datasets.files import ALL, Files, Listed
from retrieval.corpus.sources import ImageSource
from retrieval.errors import DatasetError

__all__ = ["ALL", "DATASETS", "Dataset", "load_dataset"]


@dataclass(frozen=True)
class Dataset:
    """One split of a data set.

    images    those that compete: every image with captions in the split, in any language, that is on
              disk, in the order of the captions file
    captions  those asked for; of images that are not on disk too, which matching then names
    rules     sentences on what was counted and left out, to be shown beside any result
    """

    name: str
    root: Path
    split: str
    images: list[ImageSource]
    captions: CaptionSet
    rules: list[str]


@dataclass(frozen=True)
class _Family:
    description: str
    read: Callable[[Files, str], Listed]
    tree: str
    home: str
    split: str = "test"


_FAMILIES = {
    "flickr8k": _Family(
        "Flickr8k: 8,000 photos, 5 captions each; 1,000 in test",
        flickr.flickr8k, flickr.FLICKR8K_TREE, flickr.FLICKR8K_HOME,
    ),
    "flickr30k": _Family(
        "Flickr30k: 31,000 photos, 5 captions each; 1,000 in Karpathy's test split",
        flickr.flickr30k, flickr.FLICKR30K_TREE, flickr.FLICKR30K_HOME,
    ),
    "coco": _Family(
        "MS-COCO 2014 in Karpathy's splits: 5,000 photos in test, 25,010 captions",
        coco.coco, coco.COCO_TREE, coco.COCO_HOME,
    ),
    "coco-val2017": _Family(
        "MS-COCO, the 5,000 validation photos of 2017",
        coco.val2017, coco.VAL2017_TREE, coco.VAL2017_HOME, split="val",
    ),
    "xm3600": _Family(
        "Crossmodal-3600: 3,600 photos, captions in 36 languages",
        multilingual.xm3600, multilingual.XM3600_TREE, multilingual.XM3600_HOME,
    ),
    "xtd10": _Family(
        "XTD10: 1,000 photos of MS-COCO, one caption each in 11 languages",
        multilingual.xtd10, multilingual.XTD10_TREE, multilingual.XTD10_HOME,
    ),
    "webdataset": _Family(
        "any retrieval set in CLIP_benchmark's webdataset layout, read from its tars",
        shards.webdataset, shards.WEBDATASET_TREE, shards.WEBDATASET_HOME,
    ),
    "csv": _Family(
        "your own: captions.csv (.tsv, .jsonl, .json) and images in one folder",
        table.csv, table.CSV_TREE, table.CSV_HOME, split=ALL,
    ),
}

DATASETS = {name: family.description for name, family in _FAMILIES.items()}


def load_dataset(
    name: str,
    root: str | os.PathLike[str],
    *,
    split: str | None = None,
    languages: Sequence[str] = (),
    captions_per_image: int | None = None,
) -> Dataset:
    """Find the images and the captions of one split.

    name                one of `DATASETS`
    root                the folder the data set was unpacked in
    split               as the data set names it, or "all"; None is "test", or what stands for it
    languages           keep captions in these alone; the images stay. None of them keeps all
    captions_per_image  keep the first so many of each image, in each language; None keeps all

    Raises DatasetError if the name is unknown or the folder is laid out otherwise, which says what
    was looked for; CaptionsError if a captions file cannot be used, or no captions would be kept.
    """
    if name not in _FAMILIES:
        near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.5) or list(DATASETS)
        raise DatasetError(f"There is no data set '{name}'. Choose {' or '.join(near)}.")
    family = _FAMILIES[name]
    split = split or family.split
    files = Files(Path(root), f"Expected for {name}:\n{family.tree}\nWhere to get it: {family.home}.")
    listed = family.read(files, split)
    images, rules = _images(files, listed, split)
    captions, more_rules = _captions(listed.captions, languages, captions_per_image)
    return Dataset(name, files.root, split, images, captions, rules + more_rules)


def _images(files: Files, listed: Listed, split: str) -> tuple[list[ImageSource], list[str]]:
    if listed.images is not None:
        return listed.images, [f"{listed.whose}: {_count(len(listed.images), 'image')}."]
    names = list(dict.fromkeys(caption.image for caption in listed.captions.captions))
    images, ambiguous = files.images(names, listed, split)
    rules = [f"{listed.whose}: {_count(len(names), 'image')}."]
    absent = len(names) - len(images) - len(ambiguous)
    if absent:
        rules.append(f"Not on disk and left out: {_count(absent, 'image')}.")
    if ambiguous:
        rules.append(f"Left out, as several files fit: {_count(len(ambiguous), 'image')}, such as '{ambiguous[0]}'.")
    return images, rules


def _captions(found: CaptionSet, languages: Sequence[str], most: int | None) -> tuple[CaptionSet, list[str]]:
    found = in_languages(found, languages)
    spoken = sorted({caption.language for caption in found.captions} - {""})
    rules = [f"Captions in {len(spoken)} languages: {', '.join(spoken)}."] if len(spoken) > 1 else []
    if len(spoken) == 1:
        rules = [f"Captions in {spoken[0]}."]
    per_image = Counter((caption.image, caption.language) for caption in found.captions)
    each = "an image in each language" if len(spoken) > 1 else "an image"
    total = len(found.captions)
    if most is not None:
        found = found.first_per_image(most)
        rules.append(f"The first {_count(most, 'caption')} of {each}: {len(found.captions):,} of {total:,}.")
    elif len(set(per_image.values())) == 1:
        rules.append(f"{_count(total // len(per_image), 'caption')} of {each}: {total:,}.")
    else:
        usual = Counter(per_image.values()).most_common(1)[0][0]
        kept = sum(min(usual, count) for count in per_image.values())
        hint = f" (the first {usual} each would be {kept:,}: --captions-per-image {usual})" if kept < total else ""
        rules.append(f"All captions of {each}: {total:,}{hint}.")
    return found, rules


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
