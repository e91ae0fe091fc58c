"""The webdataset layout that CLIP_benchmark reads: numbered tars of images and their captions."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from retrieval.corpus.captions import Caption, CaptionSet
from retrieval.corpus.datasets.files import Files, Listed
from retrieval.corpus.records import listing
from retrieval.corpus.sources import ImageSource, tar_members
from retrieval.errors import DatasetError

WEBDATASET_TREE = """\
    ROOT/dataset_type.txt             holds the word retrieval
    ROOT/test/nshards.txt             holds the number of tars
    ROOT/test/0.tar ...               of KEY.jpg (jpeg, png, webp) and KEY.txt, one caption a line"""
WEBDATASET_HOME = "the model hub, clip-benchmark/wds_*, or an export by clip_benchmark"
_IMAGES = ("jpg", "jpeg", "png", "webp")


def webdataset(files: Files, split: str) -> Listed:
    kind = files.root / "dataset_type.txt"
    if kind.is_file() and _text(kind.read_bytes(), str(kind)) != "retrieval":
        raise DatasetError(f"{kind} does not say 'retrieval': the data set has no captions. Give one that has.")
    folder = files.root / split
    counted = folder / "nshards.txt"
    if not counted.is_file():
        splits = sorted(path.parent.name for path in files.root.glob("*/nshards.txt"))
        if splits:
            raise DatasetError(f"{files.root} has no split '{split}': choose from {listing(splits)}.")
        raise files.lacks(f"{split}/nshards.txt")
    count = _text(counted.read_bytes(), str(counted))
    if not count.isdecimal() or not int(count):
        raise DatasetError(f"{counted} does not hold a number of tars. Write how many there are.")
    images: list[ImageSource] = []
    captions: list[Caption] = []
    empty = 0
    for shard in range(int(count)):
        path = folder / f"{shard}.tar"
        if not path.is_file():
            raise DatasetError(f"{path} is missing: {counted.name} counts {count} tars. Fetch it.")
        for image, texts in _samples(tar_members(path), f"{split}/{shard}"):
            images.append(image)
            captions += [Caption(image.name, text) for text in texts if text]
            empty += sum(not text for text in texts)
    if not captions:
        raise DatasetError(
            f"The tars of {folder} hold no image with captions (KEY.jpg beside KEY.txt). Check the layout."
        )
    return Listed(
        CaptionSet(captions, "webdataset", empty, folder), f"The {split} split ({count} tars)", images=images
    )


def _samples(members: list[ImageSource], folder: str) -> list[tuple[ImageSource, list[str]]]:
    """Return each image, under its name in `folder`, and its lines of captions."""
    images, texts = {}, {}
    for member in members:
        stem, _, suffix = posixpath.basename(member.name).partition(".")  # a key ends at its first dot
        key = posixpath.join(posixpath.dirname(member.name), stem)
        if suffix.lower() in _IMAGES:
            images.setdefault(key, replace(member, name=f"{folder}/{member.name}"))
        elif suffix == "txt":
            texts[key] = _text(member.read(), f"{member.path}, {member.name}").split("\n")
    return [(image, [line.strip() for line in texts.get(key, [])]) for key, image in images.items()]


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise DatasetError(f"{where} is not UTF-8 text. Save it as UTF-8.") from None
