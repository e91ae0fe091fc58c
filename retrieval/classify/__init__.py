"""How good an encoder is as a classifier, on a data set with a folder of images per class."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from retrieval.classify.folders import ClassFolders, LabelledImages, find_class_folders, read_labelled
from retrieval.classify.probe import (
    LinearProbe, ProbeSettings, few_per_class, fit_probe, require_scikit_learn, split_by_class,
)
from retrieval.classify.prompts import (
    TEMPLATES, class_vectors, names_of, read_class_names, read_templates, shortened, spoken,
)
from retrieval.classify.scores import Scores, score_classes
from retrieval.embedded import open_embedded
from retrieval.errors import ClassesError
from retrieval.maintain import Watcher
from retrieval.types import Encoder

__all__ = ["Classification", "ProbeSettings", "classify"]

log = logging.getLogger("retrieval")


@dataclass(frozen=True)
class Classification:
    """One encoder on one data set; zero-shot and linear probe are judged by the same images.

    model        as the user named it; encoder: what that turned out to be
    split        what the images judged by are, in words
    probe        with linear_probe, its scores; None if not asked for
    left_out     (class folder, reason), classes that take no part
    unlabelled   images in no class folder
    skipped      (path, reason), images that cannot be read
    """

    model: str
    encoder: str
    folder: Path
    classes: int
    templates: list[str]
    split: str
    zero_shot: Scores
    linear_probe: Scores | None
    probe: LinearProbe | None
    left_out: list[tuple[str, str]]
    unlabelled: list[str]
    skipped: list[tuple[str, str]]

    @property
    def by_method(self) -> dict[str, Scores]:
        """What was measured, by the name of the method."""
        probed = {"linear probe": self.linear_probe} if self.linear_probe else {}
        return {"zero-shot": self.zero_shot, **probed}

    @property
    def headline(self) -> Scores:
        """What models are compared by: the probe's scores if there is one."""
        return self.linear_probe or self.zero_shot

    def to_json(self) -> dict[str, Any]:
        content = {
            "model": self.model, "encoder": self.encoder, "folder": str(self.folder),
            "classes": self.classes, "split": self.split, "templates": self.templates,
            "zero_shot": self.zero_shot.to_json(),
        }
        if self.probe and self.linear_probe:
            content["linear_probe"] = {**self.probe.to_json(), **self.linear_probe.to_json()}
        return {
            **content,
            "left_out": [{"class": folder, "reason": reason} for folder, reason in self.left_out],
            "unlabelled": self.unlabelled,
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
        }


def classify(
    folder: Path,
    model: str | None = None,
    *,
    names: Path | None = None,
    templates: Path | None = None,
    probe: ProbeSettings | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    exact_preprocess: bool = False,
    watcher: Watcher = Watcher(),
) -> Classification:
    """Measure zero-shot classification, and with `probe` a linear probe too.

    folder     FOLDER/<class>/*, or FOLDER/train/<class>/* and FOLDER/test/<class>/*
    model      a name as for `retrieval.encoders.load_encoder`
    names      a file of class names, see `read_class_names`; None takes folder names as words
    templates  a file of sentences, see `read_templates`; None takes a short list of ours
    probe      learns from `train`, or from all but a share of each class where there is none; both
               methods are then judged by `test`, or by that share
    seed       of the split, the shots, the folds and the intervals

    Embeddings are kept in the cache, so a second run encodes texts alone.
    Raises CorpusError (of it ClassesError), EncoderError, CollectionError, TrainingError.
    """
    found = find_class_folders(folder)
    sentences = read_templates(templates) if templates else list(TEMPLATES)
    given = read_class_names(names) if names else None
    _called(found.classes, given, names)  # complain before embedding anything
    if probe:
        require_scikit_learn()
    parts = _parts(
        found, model, probe, seed, device=device, precision=precision, batch_size=batch_size,
        exact_preprocess=exact_preprocess, watcher=watcher,
    )
    classes, left_out = _taking_part(found.classes, parts)
    if len(classes) < 2:
        raise ClassesError(_too_few_left(folder, left_out))
    test, labels = _labels(parts.test, classes)
    called = _called(classes, given, names)
    _warn_of_equal_names(called)
    shown = [", ".join(several) for several in called]
    zero_shot = test.vectors @ class_vectors(called, sentences, parts.encoder).T  # (n, c)
    fitted = None
    if probe and parts.train is not None:
        train, learned = _labels(parts.train, classes)
        if probe.shots is not None:
            few = few_per_class(learned, probe.shots, seed=seed)
            train, learned = train.take(few), learned[few]
        log.info("Fitting the linear probe on %d images.", len(learned))
        fitted = fit_probe(train.vectors, learned, seed=seed)
    return Classification(
        model=model or parts.encoder.name,
        encoder=parts.encoder.name,
        folder=folder,
        classes=len(classes),
        templates=sentences,
        split=parts.split,
        zero_shot=score_classes(zero_shot, labels, classes, shown, seed=seed),
        linear_probe=fitted and score_classes(fitted.scores(test.vectors), labels, classes, shown, seed=seed),
        probe=fitted,
        left_out=left_out,
        unlabelled=found.unlabelled,
        skipped=parts.skipped,
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    """Embedded images to be judged by, and to learn from (None without a probe); split in words."""

    encoder: Encoder
    test: LabelledImages
    train: LabelledImages | None
    split: str
    skipped: list[tuple[str, str]]


def _parts(found: ClassFolders, model: str | None, probe: ProbeSettings | None, seed: int, **how: Any) -> _Parts:
    with open_embedded([found.test], model, **how) as collection:
        encoder, test = collection.load_encoder(), read_labelled(collection)
        skipped = found.unreadable + collection.catalog.failed()
    if not probe:
        return _Parts(encoder, test, None, f"images of {found.test.name}" if found.train else "all images", skipped)
    if found.train:
        # The encoder on record: "auto" might choose another one for this part.
        with open_embedded([found.train], encoder.name, **how) as collection:
            train, skipped = read_labelled(collection), skipped + collection.catalog.failed()
        return _Parts(encoder, test, train, f"images of {found.test.name}", skipped)
    apart = split_by_class(test.folders, probe.test_share, seed=seed)
    split = f"{probe.test_share:.0%} of each class, drawn with seed {seed}"
    return _Parts(encoder, test.take(apart), test.take(~apart), split, skipped)


def _called(
    folders: Sequence[str], given: Mapping[str, list[str]] | None, source: Path | None
) -> list[list[str]]:
    """The names of each class. Raises ClassesError if names were given, but not for all."""
    return [[spoken(one)] for one in folders] if given is None else names_of(folders, given, source)


def _taking_part(folders: Sequence[str], parts: _Parts) -> tuple[list[str], list[tuple[str, str]]]:
    """Classes with images on every side, by name, and the others with the reason."""
    tested = set(parts.test.folders.tolist())
    learned = tested if parts.train is None else set(parts.train.folders.tolist())
    reasons = {
        folder: "no readable image" if folder not in tested | learned
        else "no image to learn from" if folder not in learned
        else "no image to be judged by"
        for folder in sorted({*folders, *tested, *learned} - (tested & learned))
    }
    return sorted(tested & learned), list(reasons.items())


def _labels(images: LabelledImages, classes: Sequence[str]) -> tuple[LabelledImages, np.ndarray]:
    """The images of these classes, and each one's position in `classes`: int64 (n,)."""
    images = images.take(np.isin(images.folders, classes))
    return images, np.searchsorted(classes, images.folders)


def _warn_of_equal_names(called: Sequence[Sequence[str]]) -> None:
    times = Counter(", ".join(several) for several in called)
    equal = [name for name, count in times.items() if count > 1]
    if equal:
        log.warning(
            "Several classes are called the same (%s); zero-shot never tells them apart. Give them "
            "names of their own with --classes FILE.", shortened(equal),
        )


def _too_few_left(folder: Path, left_out: Sequence[tuple[str, str]]) -> str:
    reasons = shortened([f"{name}: {reason}" for name, reason in left_out])
    return f"Fewer than two classes of {folder} are left. Without them: {reasons}."
