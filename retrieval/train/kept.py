"""What frozen layers of the image tower say of some views of each photo, kept for all epochs of a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
from open_clip.transform import PreprocessCfg

from retrieval.encoders.precision import resolve_device
from retrieval.errors import TrainingError
from retrieval.files import cache_folder
from retrieval.train.frozen_front import KeptViews, frozen_front
from retrieval.train.outputs import TowerOutputs, image_projection, without_projections
from retrieval.train.pairs import Pairs
from retrieval.train.plan import Plan, Watcher, training_preprocessing
from retrieval.train.starting import Trainee


def kept_views(
    trainee: Trainee, pairs: Pairs, learned: Pairs, plan: Plan, folder: Path, device: str, watcher: Watcher
) -> tuple[list[np.ndarray] | None, tuple[str, ...]]:
    """What frozen layers say of each view, photos learned from in front, float16; and names of those, but for a whole tower.

    pairs   all photos, those held out too
    folder  for what only this run can use

    None where photos are to be augmented anew in each epoch. Raises TrainingError if the tower cannot be parted so.
    """
    whole = _of_frozen_tower(trainee, pairs, learned, plan, device, watcher)
    if whole is None and plan.views:
        return _of_front(trainee, learned, plan, folder, device, watcher)
    rmtree(folder, ignore_errors=True)  # of another run
    return whole, ()


def _of_frozen_tower(
    trainee: Trainee, pairs: Pairs, learned: Pairs, plan: Plan, device: str, watcher: Watcher
) -> list[np.ndarray] | None:
    """For each view (learned photos, width) float16 of a frozen image tower that ends in a projection; else None."""
    if plan.tuning.image != 0 or image_projection(trainee.encoder.model.visual) is None:
        return None
    outputs = TowerOutputs(without_projections(trainee.encoder), cache_folder() / "towers", device=device)
    seen = partial(watcher.saw, "Tower outputs")
    # Of all photos, though some are held out: then what is kept serves whatever is held out.
    places = {photo.name: place for place, photo in enumerate(pairs.photos)}
    chosen = [places[photo.name] for photo in learned.photos]
    return [outputs.of_photos(pairs, view, seen)[chosen] for view in range(plan.views_of_frozen_tower)]


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
