"""From captioned photos and two towers to an encoder's folder: `retrieval train` where towers learn."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, Callable

import numpy as np
import torch
from open_clip.transform import PreprocessCfg

from retrieval import __version__
from retrieval.encoders import builtin, load_encoder
from retrieval.encoders.precision import resolve_device
from retrieval.encoders.preprocess import Transform, exact_transform, fast_transform, input_size
from retrieval.errors import NOTICE, DivergedError, TrainingError
from retrieval.files import cache_folder, write_json
from retrieval.train import losses, model_folder, teacher
from retrieval.train.augment import Augmentation
from retrieval.train.batches import Batches
from retrieval.train.checkpoints import Checkpoints
from retrieval.train.frozen_front import KeptViews, frozen_front
from retrieval.train.journal import Epoch, Journal, Step, draw_curves
from retrieval.train.learner import Learner, Settings
from retrieval.train.loop import Ended, Progress, fit
from retrieval.train.outputs import TowerOutputs, image_projection, without_projections
from retrieval.train.pairs import Pairs, hold_out
from retrieval.train.processes import Processes
from retrieval.train.rehearsal import rehearse
from retrieval.train.starting import Start, Trainee, start_model
from retrieval.train.trainable import Tuning, plain_state
from retrieval.train.validation import Recalls, Validation

FACTS_FILE = "training.json"
log = logging.getLogger("retrieval")


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
    on_photos: Callable[[str, int], None] = lambda what, count: None  # of towers that run before training
    stop: Callable[[], bool] = lambda: False

    def saw(self, what: str, count: int) -> None:
        """Photos before training. Raises KeyboardInterrupt if the run is to stop: there is no step to finish yet."""
        self.on_photos(what, count)
        if self.stop():
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Outcome:
    """recalls: R@k over the photos held out, of the epoch that comes out; interrupted: it is the best so far."""

    photos: int
    captions: int
    held_out: int
    epochs: int
    steps: int
    loss: float
    temperature: float
    trained_parameters: int
    peak_gpu_bytes: int = 0
    best_epoch: int = 0
    recalls: Recalls = field(default_factory=dict)
    interrupted: bool = False


def train_dual_encoder(
    pairs: Pairs, output: Path, plan: Plan, *, processes: Processes, held_out: int = 0, device: str = "auto",
    resume: bool = False, restart: bool = False, tensorboard: bool = False, changes_only: bool = False,
    watcher: Watcher = Watcher(),
) -> Outcome:
    """Train, and write an encoder's folder; with checkpoints and a log in it.

    held_out  photos kept out of training; the epoch with the best recall over them is what comes out
    changes_only  write what differs from the packaged towers alone, as the built-in encoder ships
    resume    go on from the folder's last checkpoint, if it has one; if it has a model alone, that is an error.
              Bit for bit as if nothing had happened, but where learning rate, clip or patience are others now
    restart   begin anew even where that loses an unfinished run

    Raises TrainingError, also for a loss that is no longer a number, after writing the best epoch's model;
    UnknownModelError, WeightsError; OSError if `output` cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)  # before the long work, so that it fails early
    settings = plan.settings
    learned, apart = hold_out(pairs, held_out, settings.seed)
    checkpoints = Checkpoints(output, _identity(plan, learned, processes))
    state = _found(output, checkpoints, resume, restart, processes.is_first)
    torch.manual_seed(settings.seed)
    trainee = for_loss(start_model(plan.start), settings.loss)
    rehearse(trainee.encoder.model, learned, settings, plan.tuning, world=processes.world, size=plan.train_size)
    preprocessing = PreprocessCfg(**trainee.encoder.preprocessing)
    front: tuple[str, ...] = ()
    with processes.in_turn():
        kept = _kept_outputs(trainee, pairs, learned, plan, device, watcher)
        if kept is None and plan.views:
            front, kept = _kept_views(trainee, learned, plan, checkpoints.views, device, watcher)
        else:
            rmtree(checkpoints.views, ignore_errors=True)  # of another run
    batches = Batches(
        learned, training_transform(preprocessing, plan), batch_size=settings.batch_size, seed=settings.seed,
        augmentation=plan.augmentation, captions_per_photo=settings.captions_per_photo,
        at_least=plan.train_size or input_size(preprocessing),
        kept=kept, rank=processes.rank, world=processes.world, for_gpu=resolve_device(device).type == "cuda",
    )
    taught = None
    if plan.teacher and settings.distillation:
        taught = teacher.ask(load_encoder(plan.teacher, device=device), learned, partial(watcher.saw, "Teacher's vectors"))
    validation = None
    if apart.photos and processes.is_first:
        validation = Validation(apart, _transform(preprocessing), trainee.encoder.tokenize)
    if resolve_device(device).type == "cuda":  # the peak is to be that of learning
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    learner = Learner(
        trainee, settings, plan.tuning, batches.steps * settings.epochs, device=resolve_device(device),
        processes=processes, teacher=taught, kept_front=front,
    )
    progress = _begin(learner, output, checkpoints, state)
    journal = Journal(output, resumed_at=learner.done, tensorboard=tensorboard,
                      on_step=watcher.on_step, on_epoch=watcher.on_epoch) if processes.is_first else None
    diverged = None
    try:
        ended = fit(learner, batches, checkpoints, journal, progress, processes=processes,
                    validation=validation, stop=watcher.stop)
    except DivergedError as error:
        ended, diverged = Ended(progress, interrupted=True), error
    outcome = _outcome(ended, learner, learned, held_out)
    if journal:
        journal.close()
    if processes.is_first and (outcome.best_epoch or not ended.interrupted):
        _write(output, trainee, learner, checkpoints, plan, outcome, changes_only)
    if diverged:
        raise TrainingError(f"{diverged} {_left(output, checkpoints, outcome)}") from diverged
    return outcome


def _left(output: Path, checkpoints: Checkpoints, outcome: Outcome) -> str:
    """What there is after a run that went wrong."""
    resumed = "--resume goes on from the checkpoint before." if checkpoints.last.exists() else "There is no checkpoint yet."
    best = f" {output} holds the model of epoch {outcome.best_epoch}, the best so far." if outcome.best_epoch else ""
    return resumed + best


def _kept_outputs(
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


def _kept_views(
    trainee: Trainee, learned: Pairs, plan: Plan, folder: Path, device: str, watcher: Watcher
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Names of the frozen layers in front, and what they say of each view. The layers themselves are let go."""
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
    return front.names, views.of(learned, plan.views, partial(watcher.saw, "Frozen layers"))


def for_loss(trainee: Trainee, loss: str) -> Trainee:
    """The temperature that a loss begins with, and the bias that it needs, in model and configuration."""
    scale, bias = losses.initial_scale_and_bias(loss)
    model, config = trainee.encoder.model, trainee.config["model_cfg"]
    had_bias = getattr(model, "logit_bias", None) is not None
    if bias is None and not had_bias:
        return trainee
    if bias is not None and not had_bias:
        model.logit_bias = torch.nn.Parameter(torch.tensor(float(bias)))
        model.logit_scale.data.fill_(math.log(scale))
    config["init_logit_bias"] = float(model.logit_bias.item())  # tells open_clip that there is one
    return trainee


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
    return _transform(training_preprocessing(preprocessing, plan))


def _transform(preprocessing: PreprocessCfg) -> Transform:
    return fast_transform(preprocessing) or exact_transform(preprocessing)


def _identity(plan: Plan, pairs: Pairs, processes: Processes) -> dict[str, Any]:
    """What must not differ when a run is resumed."""
    data = hashlib.sha256()
    for photo, texts in zip(pairs.photos, pairs.captions):
        data.update("\0".join([photo.name, *texts, ""]).encode())
    described = {**asdict(plan.start), **{f"tuning {name}": one for name, one in asdict(plan.tuning).items()},
                 **asdict(plan.settings), **asdict(plan.augmentation)}
    for free in ("compile", "learning_rate", "clip", "patience"):  # may be mended on the way; the device may too
        del described[free]
    return {**{name: _plain(one) for name, one in described.items()}, "train_size": plan.train_size,
            "teacher": plan.teacher, "views": plan.views, "photos": len(pairs.photos), "data": data.hexdigest()[:16],
            "processes": processes.world}


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


def _found(output: Path, checkpoints: Checkpoints, resume: bool, restart: bool, first: bool) -> dict[str, Any] | None:
    """What to go on from; None to begin anew. Raises TrainingError before something is lost that nobody gave up."""
    if resume:
        state = checkpoints.resume()
        if state is None and (output / model_folder.CONFIG_FILE).exists():
            raise TrainingError(
                f"{output} holds a model, and no checkpoint to go on from. Train anew over it without --resume, or "
                "choose another folder."
            )
        if state is None and first:
            log.log(NOTICE, "%s holds no checkpoint to go on from; beginning anew.", output)
        return state
    state = None if restart else checkpoints.found()
    if state and state["learner"]["done"] != _finished_at(output):
        raise TrainingError(
            f"{output} holds an unfinished run (step {state['learner']['done']}). Go on with --resume, begin anew with "
            "--restart, or choose another folder."
        )
    return None


def _finished_at(output: Path) -> int | None:
    """Steps of the run that the model in the folder came out of; None if there is none that ended."""
    try:
        facts = json.loads((output / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return None if facts.get("interrupted") else facts.get("steps")


def _begin(learner: Learner, output: Path, checkpoints: Checkpoints, state: dict[str, Any] | None) -> Progress:
    if state is None:
        checkpoints.clear()
        (output / FACTS_FILE).unlink(missing_ok=True)  # of another run
        return Progress()
    learner.load_state(state["learner"])
    return Progress(**state["progress"])


def _outcome(ended: Ended, learner: Learner, learned: Pairs, held_out: int) -> Outcome:
    progress = ended.progress
    return Outcome(
        photos=len(learned.photos), captions=sum(map(len, learned.captions)), held_out=held_out,
        epochs=progress.epoch, steps=learner.done, loss=progress.last_loss, temperature=learner.temperature,
        trained_parameters=sum(one.numel() for one in learner.weights.values()),
        peak_gpu_bytes=learner.peak_gpu_bytes,
        best_epoch=progress.best_epoch, recalls=progress.best_recalls, interrupted=ended.interrupted,
    )


def _write(
    output: Path, trainee: Trainee, learner: Learner, checkpoints: Checkpoints, plan: Plan, outcome: Outcome,
    changes_only: bool,
) -> None:
    best = checkpoints.best_weights()
    model = learner.finished(learner.outcome() if best is None else best)
    facts = {
        "software": f"crossmodal-retrieval {__version__}", "start": asdict(plan.start), "tuning": asdict(plan.tuning),
        "settings": asdict(plan.settings), "augmentation": asdict(plan.augmentation),
        "train_size": plan.train_size, "teacher": plan.teacher, "views": plan.views, **asdict(outcome),
    }
    if changes_only:
        builtin.write_trained(plain_state(model), output / builtin.TRAINED_FILE.name)
        write_json(output / builtin.CONFIG_FILE.name, trainee.config)
    else:
        model_folder.write(output, trainee, plain_state(model), facts)
    write_json(output / FACTS_FILE, facts)
    draw_curves(output)
