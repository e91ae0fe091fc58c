"""What lies below a data set's folder: captions files by name, images by the names captions give them."""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.corpus.captions import CaptionSet
from retrieval.corpus.found import is_image
from retrieval.corpus.names import resolve_names
from retrieval.corpus.records import listing
from retrieval.corpus.sources import ImageSource, tar_members
from retrieval.errors import DatasetError

ALL = "all"  # in place of a split's name: every split


@dataclass(frozen=True)
class Listed:
    """What the captions of a data set say.

    captions  of the split, in every language
    whose     the split and where it is written down, such as "Karpathy's test split (dataset_coco.json)"
    folder    where images named without a folder lie; "" is anywhere
    images    the images, if reading the captions found them already
    """

    captions: CaptionSet
    whose: str
    folder: str = ""
    images: list[ImageSource] | None = None


class Files:
    """The files below a folder, found in one walk that follows links.

    root   the folder, absolute
    names  of the files, relative with forward slashes, in order; hidden ones and collections are left out

    Raises DatasetError if there is no folder; `guide` says how it should look, and where it comes from.
    """

    def __init__(self, root: Path, guide: str) -> None:
        self.root = Path(os.path.abspath(root))
        self._guide = guide
        if not self.root.is_dir():
            fault = "is not a folder" if self.root.exists() else "does not exist"
            raise DatasetError(f"{root} {fault}.\n{guide}")
        self.names = sorted(_walk(self.root))
        self._by_base = defaultdict(list)
        for name in self.names:
            self._by_base[posixpath.basename(name)].append(name)

    def find(self, *names: str) -> Path | None:
        """Return the first of these files that is there; of several the one least deep."""
        for name in names:
            ends = [one for one in self._by_base[posixpath.basename(name)] if f"/{one}".endswith(f"/{name}")]
            if ends:
                return self.root / min(ends, key=lambda one: (one.count("/"), one))
        return None

    def matching(self, pattern: str) -> dict[str, Path]:
        """Return the files whose base names match, by the pattern's first group; of several the least deep."""
        found: dict[str, Path] = {}
        for name in sorted(self.names, key=lambda one: (one.count("/"), one)):
            match = re.fullmatch(pattern, posixpath.basename(name))
            if match:
                found.setdefault(match[1], self.root / name)
        return found

    def lacks(self, *looked_for: str) -> DatasetError:
        held = sorted(path.name + "/" * path.is_dir() for path in self.root.iterdir())
        holds = f"It holds {listing(held)}." if held else "It is empty."
        wanted = looked_for[0] if len(looked_for) == 1 else f"any of {', '.join(looked_for)}"
        return DatasetError(f"{self.root} does not hold {wanted}. {holds}\n{self._guide}")

    def images(self, names: Sequence[str], listed: Listed, split: str) -> tuple[list[ImageSource], list[str]]:
        """Return the images of these names that are on disk, and the names that fit several files.

        What is no file of its own is looked for in tars, the one named after the split first.
        Raises DatasetError if there is none.
        """
        asked = {name: posixpath.join(listed.folder, name) for name in names}
        sources = [ImageSource(name, self.root / name) for name in self.names if is_image(name)]
        found, ambiguous = _resolve(asked, sources)
        tars = [name for name in self.names if name.endswith(".tar")]
        for tar in sorted(tars, key=lambda name: (posixpath.basename(name) != f"{split}.tar", name)):
            left = {name: path for name, path in asked.items() if name not in found and name not in ambiguous}
            if left:
                sources = [
                    ImageSource(f"{tar[:-4]}/{one.name}", one.path, one.offset, one.size)
                    for one in tar_members(self.root / tar) if is_image(one.name)
                ]
                more, unclear = _resolve(left, sources)
                found |= more
                ambiguous |= unclear
        if not found:
            fault = "each fits several files; keep one copy" if ambiguous else "not as files and not in tars"
            raise DatasetError(
                f"None of the {len(names):,} images named in {listed.captions.source}, "
                f"such as '{names[0]}', can be found below {self.root}: {fault}.\n{self._guide}"
            )
        return [found[name] for name in names if name in found], [name for name in names if name in ambiguous]


def split_or_none(split: str) -> str | None:
    """As `read_captions` takes it."""
    return None if split == ALL else split


def split_title(whose: str, split: str, source: str) -> str:
    """For `Listed.whose`."""
    return f"Every split of {source}" if split == ALL else f"{whose} {split} split ({source})"


def refuse_other_splits(split: str, there: Sequence[str], name: str) -> None:
    """Raises DatasetError."""
    if split not in (*there, ALL):
        raise DatasetError(f"{name} has no split '{split}': choose from {listing(there)}.")


def _resolve(asked: dict[str, str], sources: list[ImageSource]) -> tuple[dict[str, ImageSource], set[str]]:
    positions, ambiguous = resolve_names(list(asked.values()), [source.name for source in sources])
    found = {name: sources[positions[path]] for name, path in asked.items() if path in positions}
    return found, {name for name, path in asked.items() if path in ambiguous}


def _walk(root: Path) -> Iterator[str]:
    been = set()
    for parent, folders, names in os.walk(root, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in been:  # a link leads back
            folders.clear()
            continue
        been.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".collection"))
        below = Path(parent).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        yield from (prefix + name for name in names if not name.startswith("."))
