"""Runs what is frozen, once over photos and captions, for all epochs of a run."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
from open_clip.transform import PreprocessCfg

from retrieval.encoders.precision import resolve_device
from retrieval.errors import TrainingError
from retrieval.files import cache_folder
from retrieval.train.frozen_front import KeptViews, frozen_front
from retrieval.train.kept import Kept
from retrieval.train.outputs import TowerOutputs, image_projection, text_projection, without_projections
from retrieval.train.pairs import Pairs
from retrieval.train.plan import Plan, Watcher, training_preprocessing
from retrieval.train.starting import Trainee


def keep(
    trainee: Trainee, pairs: Pairs, learned: Pairs, apart: Pairs, plan: Plan, folder: Path, device: str, watcher: Watcher
) -> Kept:
    """Run what is frozen.

    pairs   all photos: those learned from and those held out apart
    folder  for what only this run can use

    Raises TrainingError if views are asked for, and the tower has no frozen layers that can be taken apart.
    """
    visual, text = trainee.encoder.model.visual, getattr(trainee.encoder.model, "text", None)
    whole_image = plan.tuning.image == 0 and image_projection(visual) is not None
    whole_text = plan.tuning.text == 0 and text_projection(text) is not None and not plan.augmentation.word_dropout
    found = Kept()
    if whole_image or whole_text:
        outputs = TowerOutputs(without_projections(trainee.encoder), cache_folder() / "towers", device=device)
        # Of all photos, though some are held out: then what is kept serves whatever is held out.
        places = {photo.name: place for place, photo in enumerate(pairs.photos)}
        inside, outside = ([places[photo.name] for photo in part.photos] for part in (learned, apart))
        if whole_image:
            found = _photos(found, outputs, pairs, inside, outside, plan, watcher)
        if whole_text:
            found = _texts(found, outputs, pairs, inside, outside, watcher)
    if plan.views and not whole_image:
        views, front = _of_front(trainee, learned, plan, folder, device, watcher)
        return replace(found, views=views, front=front)
    rmtree(folder, ignore_errors=True)  # of another run
    return found


def _photos(
    found: Kept, outputs: TowerOutputs, pairs: Pairs, inside: list[int], outside: list[int], plan: Plan, watcher: Watcher
) -> Kept:
    seen = partial(watcher.saw, "Tower outputs")
    views = [outputs.of_photos(pairs, view, seen) for view in range(plan.views_of_frozen_tower)]
    return replace(found, views=[view[inside] for view in views], photos_apart=views[0][outside])


def _texts(
    found: Kept, outputs: TowerOutputs, pairs: Pairs, inside: list[int], outside: list[int], watcher: Watcher
) -> Kept:
    said = outputs.of_texts([text for texts in pairs.captions for text in texts], partial(watcher.saw, "Captions"))
    ends = np.cumsum([len(texts) for texts in pairs.captions])
    by_photo = np.split(said, ends[:-1])
    return replace(found, texts=np.concatenate([by_photo[place] for place in inside]),
                   texts_apart=np.concatenate([by_photo[place] for place in outside] or [said[:0]]))


def _of_front(
    trainee: Trainee, learned: Pairs, plan: Plan, folder: Path, device: str, watcher: Watcher
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """The layers themselves are let go."""
    preprocessing = training_preprocessing(PreprocessCfg(**trainee.encoder.preprocessing), plan)
    size = preprocessing.size
    front = frozen_front(trainee.encoder.model, plan.tuning, (size, size) if isinstance(size, int) else size)
    if front is None:
        raise TrainingError(
            "Views are kept of what frozen layers in front say, and this image tower has none that can be taken "
            "apart from those that learn. Leave --views out."
        )
    views = KeptViews(front, folder, preprocessing, augmentation=plan.augmentation, seed=plan.settings.seed,
                      device=resolve_device(device))
    return views.of(learned, plan.views, partial(watcher.saw, "Frozen layers")), front.names
