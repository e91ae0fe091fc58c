"""The true labels of images, from a table, and which of them can be judged."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import numpy as np

from retrieval.classify.prompts import shortened
from retrieval.corpus.layouts import IMAGE_COLUMNS
from retrieval.corpus.names import resolve_names
from retrieval.corpus.records import Table, read_text
from retrieval.errors import ClassesError

log = logging.getLogger("retrieval")

LABEL_COLUMNS = ("label", "tag", "class", "category")


@dataclass(frozen=True, eq=False)
class MatchedTruth:
    """What is true of the images that are judged.

    images    (m,) int64, positions in the ids, ascending
    true      (m, c) bool, which label is true of which image
    missing   names of images that are not there, or fit several
    unknown   labels of the table that are not among those asked for
    """

    images: np.ndarray
    true: np.ndarray
    missing: list[str]
    unknown: list[str]


def read_truth(file: Path) -> dict[str, list[str]]:
    """Image name -> its labels: a table with a column image and a column label, a line for each label.

    An image with a blank label has none. Columns may also be called as captions files call images,
    and tag, class or category. Raises CaptionsError for another layout.
    """
    table = Table(read_text(file, "file of true labels"), file)
    image = table.column("image", IMAGE_COLUMNS)
    label = table.column("label", LABEL_COLUMNS, taken=[table.columns[image]])
    truth: dict[str, list[str]] = {}
    for _, fields in table.records({image: "image"}):
        labels = truth.setdefault(fields[image], [])
        if fields[label]:
            labels.append(fields[label])
    if not truth:
        raise ClassesError(f"{file} names no image. Write a line of image and label for each.")
    return truth


def match_truth(
    truth: dict[str, list[str]], ids: Sequence[str], labels: Sequence[str], source: Path, *, strict: bool = False
) -> MatchedTruth:
    """Find images, by `names.resolve_names`, and labels, whose case does not matter.

    Images that are not there and labels that were not asked for are named in a warning and left
    out; `strict` refuses them. Raises ClassesError, also if no image is left.
    """
    positions, _ = resolve_names(list(truth), ids)
    columns = {label.casefold(): column for column, label in enumerate(labels)}
    missing = [name for name in truth if name not in positions]
    unknown = sorted({one for several in truth.values() for one in several if one.casefold() not in columns})
    complaints = [
        f"{len(names)} of its {what}: {shortened(names)}"
        for what, names in (("images are not in the collection", missing), ("labels were not asked for", unknown)) if names
    ]
    if not positions:
        raise ClassesError(f"{source}: {complaints[0]}. Give the labels of these images.")
    if complaints and strict:
        raise ClassesError(f"{source}: {'; '.join(complaints)}. Without --strict they are left out.")
    for complaint in complaints:
        log.warning("%s: %s; left out.", source, complaint)
    found = sorted(positions, key=positions.__getitem__)
    true = np.zeros((len(found), len(labels)), bool)
    for row, name in enumerate(found):
        true[row, [columns[one.casefold()] for one in truth[name] if one.casefold() in columns]] = True
    return MatchedTruth(np.array([positions[name] for name in found], np.int64), true, missing, unknown)
