"""Classes as folders: FOLDER/<class>/..., or FOLDER/train/<class>/... and FOLDER/test/<class>/..."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.collection import Collection
from retrieval.corpus.folder import scan
from retrieval.errors import ClassesError

TRAIN, TESTS = "train", ("test", "val")


@dataclass(frozen=True)
class ClassFolders:
    """Where the classes' folders are, by file names alone.

    test        the folder of class folders to be judged by
    train       the one to learn from; None if the data set is not divided
    classes     names of all class folders in `test`, those without an image included, by name
    unlabelled  images that are in no class folder, relative to the data set's folder
    unreadable  (path, reason), folders and odd names
    """

    test: Path
    train: Path | None
    classes: list[str]
    unlabelled: list[str]
    unreadable: list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Embedded images of one part, by path: vectors (n, d) float32 unit rows, folders (n,) names."""

    vectors: np.ndarray
    folders: np.ndarray

    def take(self, chosen: np.ndarray) -> LabelledImages:
        """Those at these positions, or where a mask (n,) is true."""
        return LabelledImages(self.vectors[chosen], self.folders[chosen])


def find_class_folders(folder: Path) -> ClassFolders:
    """Look for a folder of images per class; opens no image.

    FOLDER/train and FOLDER/test (without it, FOLDER/val) are parts if both exist. A class is the
    first level below FOLDER, or below a part; what is nested deeper belongs to it too.

    Raises CorpusError if there is no such folder, ClassesError for fewer than two classes.
    """
    if folder.exists() and not folder.is_dir():
        raise ClassesError(f"{folder} is a file. Give a folder that holds a folder of images per class.")
    test = next((name for name in TESTS if (folder / TRAIN).is_dir() and (folder / name).is_dir()), None)
    parts = [TRAIN, test] if test else []
    # A scan follows no links to folders but those that it is given.
    found = scan([folder, *(folder / part for part in parts if (folder / part).is_symlink())])
    labelled, unlabelled = [], []
    for name in (Path(file.state.path).relative_to(os.path.abspath(folder)).as_posix() for file in found.images):
        part, _, inside = name.partition("/")
        below = name if not parts else inside if part in parts else ""
        if "/" not in below:
            unlabelled.append(name)
        elif part == test or not parts:
            labelled.append(below)
    with_images = {name.partition("/")[0] for name in labelled}
    judged = folder / test if test else folder
    if len(with_images) < 2:
        raise ClassesError(_too_few(judged, sorted(with_images), unlabelled))
    return ClassFolders(
        judged, folder / TRAIN if test else None, sorted(with_images | _subfolders(judged)),
        unlabelled, found.unreadable,
    )


def read_labelled(collection: Collection) -> LabelledImages:
    """The images of class folders; others are left out."""
    # By path: rows tell in what order files were found, and a seed must not mean another split.
    documents = sorted((id, row) for id, row in collection.catalog.indexed() if "/" in id)
    return LabelledImages(
        collection.vectors.take(np.array([row for _, row in documents], np.int64)),
        np.array([id.partition("/")[0] for id, _ in documents], str),
    )


def _too_few(judged: Path, classes: list[str], unlabelled: list[str]) -> str:
    found = f"the images of one class only ({classes[0]})" if classes else "no class folder with images"
    loose = f", and {len(unlabelled)} images outside class folders" if unlabelled else ""
    return (
        f"{judged} holds {found}{loose}. Two classes or more are needed, a folder each: "
        "FOLDER/<class>/*.jpg, or FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg."
    )


def _subfolders(folder: Path) -> set[str]:
    return {
        one.name for one in folder.iterdir()
        if one.is_dir() and not one.name.startswith(".") and one.suffix != ".collection"
    }
