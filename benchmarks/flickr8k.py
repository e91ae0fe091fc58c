"""The Flickr8k test split, which is no part of the project: FLICKR8K names a folder with
flickr8k/test.tar (1,000 photos, squashed to 224 pixels), flickr8k/captions.tsv, and the originals in photos/.
"""

from __future__ import annotations

import csv
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.case import LeftOut
from benchmarks.kept import edition, kept

FOLDER = "FLICKR8K"


def source(*more: str) -> Path:
    """The folder, with what else has to be in it. Raises LeftOut."""
    folder = os.environ.get(FOLDER)
    if not folder:
        raise LeftOut(f"${FOLDER} names no folder with the Flickr8k photos")
    for name in ("flickr8k/test.tar", "flickr8k/captions.tsv", *more):
        if not (Path(folder) / name).exists():
            raise LeftOut(f"{name} is not in ${FOLDER}")
    return Path(folder)


def captions(source: Path) -> dict[str, list[str]]:
    """Of the test split, by the photo's name."""
    found: dict[str, list[str]] = {}
    with (source / "flickr8k" / "captions.tsv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            if line["split"] == "test":
                found.setdefault(line["image"], []).append(line["caption"])
    return found


def collection(source: Path, captions: Mapping[str, list[str]], work: Path, model: str) -> Path:
    """Of the split's photos and their captions, both embedded; made once."""
    from retrieval.maintain import Options, index_sources

    def unpack(folder: Path) -> None:
        with tarfile.open(source / "flickr8k" / "test.tar") as archive:
            archive.extractall(folder, filter="data")
        with (folder / "captions.tsv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, delimiter="\t")
            table.writerow(["image", "caption"])
            table.writerows(
                [path.relative_to(folder).as_posix(), caption]
                for path in sorted(folder.rglob("*.jpg")) for caption in captions[path.name]
            )

    unpacked = kept(work / "flickr8k-test", unpack)
    path = work / f"flickr8k-test-{model}-{edition()}.collection"
    options = Options(model, captions=True)
    return kept(path, lambda beside: index_sources([unpacked / "captions.tsv"], beside, options))
