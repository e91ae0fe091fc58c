"""What is to be measured: a collection, a folder or tar of images, or a data set by its name."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.catalog import Catalog
from retrieval.corpus.captions import CaptionSet, read_captions
from retrieval.corpus.datasets import DATASETS, load_dataset
from retrieval.corpus.layouts import Caption
from retrieval.corpus.sources import images_in
from retrieval.corpus.staging import stage
from retrieval.errors import CaptionsError, CorpusError, DatasetError
from retrieval.files import cache_folder
from retrieval.manifest import FILE_NAME as MANIFEST
from retrieval.manifest import Manifest


@dataclass(frozen=True)
class Captioning:
    """Which captions: the file, and what of it."""

    file: Path | None = None
    split: str | None = None
    languages: tuple[str, ...] = ()
    per_image: int | None = None


@dataclass(frozen=True)
class Subject:
    """Images and captions to measure with.

    name        for titles: "coco (test)", "photos.collection"
    collection  made already, with its encoder; None: embed `folder` with any model
    dataset     name in `retrieval.corpus.datasets.DATASETS`, or ""
    """

    name: str
    captions: CaptionSet
    rules: tuple[str, ...] = ()
    collection: Path | None = None
    folder: Path | None = None
    dataset: str = ""


def find_subject(target: str, captioning: Captioning, *, root: Path | None = None) -> Subject:
    """Find out what `target` names: with `root` a data set that lies there, if it is one's name; else a path.

    Images of tars are unpacked, and scattered ones linked, into the cache folder.

    Raises CorpusError (DatasetError for a data set that is not laid out as expected), CaptionsError.
    """
    if not target:  # an unset shell variable must not mean the current folder
        raise CorpusError("The target is empty. Name a collection, a folder, a .tar, or a data set.")
    path = Path(target)
    # RETRIEVAL_DATA gives a root to every run, those on one's own images too.
    if root is not None and (target in DATASETS or not path.exists()):
        return _of_dataset(target, root, captioning)
    if path.exists():
        return _of_path(path, captioning)
    if path.suffix == ".collection":
        Manifest.load(path)  # says that it is not there, and how to make it
    if target in DATASETS:
        raise DatasetError(
            f"{target} is a data set; say where you keep it: --root FOLDER, or RETRIEVAL_DATA in the environment."
        )
    near = difflib.get_close_matches(target.lower(), DATASETS, n=1)
    meant = f" Did you mean the data set {near[0]} (with --root FOLDER)?" if near else ""
    raise CorpusError(
        f"{target} is neither a collection, a folder, a .tar, nor a data set ({', '.join(DATASETS)}).{meant}"
    )


def _of_dataset(name: str, root: Path, captioning: Captioning) -> Subject:
    if captioning.file is not None and name in DATASETS:
        raise CaptionsError(
            f"{name} is a data set with captions of its own. Leave out --captions, or leave out --root "
            "and give the folder of images."
        )
    dataset = load_dataset(
        name, root, split=captioning.split, languages=captioning.languages,
        captions_per_image=captioning.per_image,
    )
    title = f"{dataset.name} ({dataset.split})" if dataset.split else dataset.name
    folder = _staged(dataset.images, f"{dataset.name}-{dataset.split}", root)
    return Subject(title, dataset.captions, tuple(dataset.rules), folder=folder, dataset=dataset.name)


def _of_path(path: Path, captioning: Captioning) -> Subject:
    is_collection = path.is_dir() and (path / MANIFEST).exists()
    rules = []
    if captioning.file is not None:
        captions = read_captions(captioning.file, split=captioning.split, languages=captioning.languages)
    else:
        captions = _stored_captions(path, captioning) if is_collection else None
        rules.append("Captions are those that the collection keeps of its images.")
    if captions is None:
        raise CaptionsError(
            f"What is right for {path}? Give captions: --captions FILE (a table with columns image and caption, "
            "COCO or Karpathy JSON, JSON lines)."
        )
    if captioning.per_image is not None:
        before = len(captions.captions)
        captions = captions.first_per_image(captioning.per_image)
        rules.append(f"The first {captioning.per_image} captions of an image: {len(captions.captions):,} of {before:,}.")
    if is_collection:
        return Subject(path.name, captions, tuple(rules), collection=path)
    folder = path if path.is_dir() else _staged(images_in(path), path.stem, path)
    return Subject(path.name, captions, tuple(rules), folder=folder)


def _stored_captions(path: Path, captioning: Captioning) -> CaptionSet | None:
    """None if it keeps none."""
    with Catalog.open(path) as catalog:
        captions = [Caption(id, text) for id, text in catalog.captions.by_id()]
    if captions and (captioning.split is not None or captioning.languages):
        raise CaptionsError(f"The captions that {path} keeps have no splits and no languages. Give a file: --captions FILE.")
    return CaptionSet(captions, "collection", 0, path) if captions else None


def _staged(images: Sequence, name: str, source: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(source))).hexdigest()[:12]
    folder = cache_folder() / "staged" / f"{name}-{digest}"
    stage(images, folder)
    return folder
