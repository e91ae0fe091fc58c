"""What is trained on what, and how; and how a run tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable

from open_clip.transform import PreprocessCfg

from retrieval.encoders.preprocess import Transform, exact_transform, fast_transform
from retrieval.train.augment import Augmentation
from retrieval.train.journal import Epoch, Step
from retrieval.train.settings import Settings
from retrieval.train.starting import Start
from retrieval.train.trainable import Tuning


@dataclass(frozen=True)
class Plan:
    """What is trained on what, and how.

    train_size  pixels that photos are learned at, where the image tower takes any; None: the model's own
    teacher     an encoder to learn from too, named as `--model`
    views       augmented copies of each photo that the image tower's frozen layers run over once, and not in
                every epoch. Where the whole tower is frozen, and its projection is a linear map, 8 if None, the
                photo itself included; anywhere else None is for photos augmented anew in each epoch
    """

    start: Start
    tuning: Tuning = Tuning()
    settings: Settings = Settings()
    augmentation: Augmentation = Augmentation()
    train_size: int | None = None
    teacher: str | None = None
    views: int | None = None

    @property
    def views_of_frozen_tower(self) -> int:
        return self.views or 8


@dataclass(frozen=True)
class Watcher:
    """How a run tells how far it is; every call is optional. stop: asked after each step."""

    on_step: Callable[[Step], None] = lambda step: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    on_photos: Callable[[str, int], None] = lambda what, count: None  # or captions, of towers that run before training
    stop: Callable[[], bool] = lambda: False

    def saw(self, what: str, count: int) -> None:
        """Photos, or captions, before training. Raises KeyboardInterrupt if the run is to stop: there is no step to finish yet."""
        self.on_photos(what, count)
        if self.stop():
            raise KeyboardInterrupt


def training_preprocessing(preprocessing: PreprocessCfg, plan: Plan) -> PreprocessCfg:
    """From an augmented image to pixels: a random crop is squashed to the input, as it is everywhere."""
    changed: dict[str, Any] = {}
    if plan.augmentation.crop < 1:
        changed["resize_mode"] = "squash"
    if plan.train_size:
        changed["size"] = plan.train_size
    return replace(preprocessing, **changed)


def training_transform(preprocessing: PreprocessCfg, plan: Plan) -> Transform:
    """What makes pixels to learn from of an augmented image."""
    return transform(training_preprocessing(preprocessing, plan))


def transform(preprocessing: PreprocessCfg) -> Transform:
    return fast_transform(preprocessing) or exact_transform(preprocessing)
