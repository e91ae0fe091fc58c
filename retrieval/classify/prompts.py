"""What classes are called, and class vectors made of sentences with those names."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from retrieval.errors import ClassesError
from retrieval.types import Encoder

TEMPLATES = (
    "{}",
    "a picture showing {}",
    "a photograph of one {}",
    "a {} up close",
    "a {} in the distance",
    "this is a {}",
    "a snapshot with a {} in it",
    "several {} together",
)
_PLACEHOLDER = re.compile(r"\{(?:c|label)?\}")
_TEXTS_AT_ONCE = 1024


def read_templates(file: Path) -> list[str]:
    """Templates, one a line; {}, {c} or {label} stands for the class's name. Blank lines are skipped.

    Raises ClassesError for a line without a placeholder, or a file without a template.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_lines(file), 1) if line.strip()]
    for number, line in lines:
        if not _PLACEHOLDER.search(line):
            raise ClassesError(
                f"{file}, line {number}: {line!r} has no place for the class's name. "
                "Write {} there, as in: a photo of a {}"
            )
    if not lines:
        raise ClassesError(f"{file} holds no template. Write one a line, as in: a photo of a {{}}")
    return [line for _, line in lines]


def read_class_names(file: Path) -> dict[str, list[str]]:
    """Folder -> names, from lines of a folder, a tab (in a .csv file, a comma), and a name.

    A folder with several lines has several names. A header line "folder, name" is skipped.
    Raises ClassesError for a line of another shape.
    """
    comma = file.suffix.lower() == ".csv"
    reader = csv.reader(read_lines(file), delimiter="," if comma else "\t",
                        quoting=csv.QUOTE_MINIMAL if comma else csv.QUOTE_NONE)
    names: dict[str, list[str]] = {}
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells) or (reader.line_num == 1 and [cell.lower() for cell in cells] == ["folder", "name"]):
            continue
        if len(cells) != 2 or not all(cells):
            wanted = "a comma" if comma else "a tab"
            raise ClassesError(
                f"{file}, line {reader.line_num}: {' '.join(row)!r} is not a folder, {wanted} and a name."
            )
        names.setdefault(cells[0], []).append(cells[1])
    return names


def names_of(folders: Sequence[str], given: Mapping[str, list[str]], source: Path | None) -> list[list[str]]:
    """The given names of each class folder. Raises ClassesError if one has none."""
    nameless = [folder for folder in folders if folder not in given]
    if nameless:
        raise ClassesError(
            f"{source} names {len(folders) - len(nameless)} of the {len(folders)} class folders; "
            f"add a line for each of the others: {shortened(nameless)}."
        )
    return [given[folder] for folder in folders]


def spoken(folder: str) -> str:
    """A folder's name as words: "red_panda" and "red-panda" are a red panda."""
    return " ".join(folder.replace("_", " ").replace("-", " ").split()) or folder


def class_vectors(names: Sequence[Sequence[str]], templates: Sequence[str], encoder: Encoder) -> np.ndarray:
    """One vector per class: (c, d) float32 unit rows.

    A class's vector is the mean of the unit vectors of all its names in all templates, made of
    unit length again (Radford et al. 2021, section 3.1.4).
    """
    texts = [
        _PLACEHOLDER.sub(lambda _: name, template)  # a function: a name may hold backslashes
        for several in names for name in several for template in templates
    ]
    sizes = [len(several) * len(templates) for several in names]
    owner = np.repeat(np.arange(len(names)), sizes)
    sums = np.zeros((len(names), encoder.dim), np.float32)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        block = slice(start, start + _TEXTS_AT_ONCE)
        np.add.at(sums, owner[block], encoder.encode_texts(texts[block]))
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def shortened(names: Sequence[str]) -> str:
    """The first five, and how many more."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def read_lines(file: Path) -> list[str]:
    """Raises ClassesError if it cannot be read as text."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ClassesError(f"{file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ClassesError(f"{file} is not text in UTF-8. Save it as UTF-8 and try again.") from error
