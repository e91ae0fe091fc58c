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
    found = _of_whole_towers(trainee, pairs, learned, apart, plan, device, watcher)
    if plan.views and found.views is None:
        views, front = _of_front(trainee, learned, plan, folder, device, watcher)
        return replace(found, views=views, front=front)
    rmtree(folder, ignore_errors=True)  # of another run
    return found


def _of_whole_towers(
    trainee: Trainee, pairs: Pairs, learned: Pairs, apart: Pairs, plan: Plan, device: str, watcher: Watcher
) -> Kept:
    """Of towers that are frozen up to a projection. Their copy is let go."""
    model = trainee.encoder.model
    image = plan.tuning.image == 0 and image_projection(model.visual) is not None
    text = _keeps_texts(plan, learned) and text_projection(getattr(model, "text", None)) is not None
    found = Kept()
    if not (image or text):
        return found
    outputs = TowerOutputs(
        without_projections(trainee.encoder), cache_folder() / "towers", device=device, precision=plan.settings.precision
    )
    # Of all photos, though some are held out: then what is kept serves whatever is held out.
    places = {photo.name: place for place, photo in enumerate(pairs.photos)}
    inside, outside = ([places[photo.name] for photo in part.photos] for part in (learned, apart))
    if image:
        views = []
        for view in range(plan.views_of_frozen_tower):
            of_all = outputs.of_photos(pairs, view, partial(watcher.saw, "Tower outputs"))
            views.append(of_all[inside])
            if view == 0:
                found = replace(found, photos_apart=of_all[outside])
        found = replace(found, views=views)
    if text:
        said = outputs.of_texts([one for texts in pairs.captions for one in texts], partial(watcher.saw, "Captions"))
        rows = np.split(np.arange(len(said)), np.cumsum([len(texts) for texts in pairs.captions])[:-1])
        inside, outside = (np.concatenate([rows[place] for place in part] or [[]]).astype(int) for part in (inside, outside))
        found = replace(found, texts=said, text_rows=inside, texts_apart=said[outside])
    return found


def _keeps_texts(plan: Plan, learned: Pairs) -> bool:
    """Whether captions are frozen towers' alone, the same in each epoch, and not fewer drawn than there are."""
    settings, captions = plan.settings, sum(map(len, learned.captions))
    drawn = settings.epochs * len(learned.photos) * (settings.captions_per_photo or captions)
    return plan.tuning.text == 0 and not plan.augmentation.word_dropout and drawn >= captions


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
