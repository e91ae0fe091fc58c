"""From captioned photos and two towers to an encoder's folder: `retrieval train` where towers learn."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg

from retrieval import __version__
from retrieval.encoders import builtin, load_encoder
from retrieval.encoders.precision import resolve_device
from retrieval.encoders.preprocess import input_size
from retrieval.errors import NOTICE, DivergedError, TrainingError
from retrieval.files import write_json
from retrieval.train import losses, model_folder, teacher
from retrieval.train.batches import Batches
from retrieval.train.checkpoints import Checkpoints
from retrieval.train.heap import freed_memory_kept
from retrieval.train.journal import Journal, draw_curves
from retrieval.train.keeping import keep
from retrieval.train.learner import Learner
from retrieval.train.loop import Ended, Progress, fit
from retrieval.train.pairs import Pairs, hold_out
from retrieval.train.plan import Plan, Watcher, training_transform, transform
from retrieval.train.processes import Processes
from retrieval.train.rehearsal import rehearse
from retrieval.train.starting import Trainee, start_model
from retrieval.train.trainable import plain_state
from retrieval.train.validation import Recalls, Validation

FACTS_FILE = "training.json"
log = logging.getLogger("retrieval")


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
    with processes.in_turn():
        kept = keep(trainee, pairs, learned, apart, plan, checkpoints.views, device, watcher)
    batches = Batches(
        learned, training_transform(preprocessing, plan), batch_size=settings.batch_size, seed=settings.seed,
        augmentation=plan.augmentation, captions_per_photo=settings.captions_per_photo,
        at_least=plan.train_size or input_size(preprocessing),
        kept=kept.views, rank=processes.rank, world=processes.world, for_gpu=resolve_device(device).type == "cuda",
    )
    taught = None
    if plan.teacher and settings.distillation:
        taught = teacher.ask(load_encoder(plan.teacher, device=device), learned, partial(watcher.saw, "Teacher's vectors"))
    validation = None
    if apart.photos and processes.is_first:
        validation = Validation(apart, transform(preprocessing), trainee.encoder.tokenize, kept)
    if resolve_device(device).type == "cuda":  # the peak is to be that of learning
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    learner = Learner(
        trainee, settings, plan.tuning, batches.steps * settings.epochs, device=resolve_device(device),
        processes=processes, teacher=taught, kept=kept,
    )
    progress = _begin(learner, output, checkpoints, state)
    journal = Journal(output, resumed_at=learner.done, tensorboard=tensorboard,
                      on_step=watcher.on_step, on_epoch=watcher.on_epoch) if processes.is_first else None
    diverged = None
    try:
        with freed_memory_kept():
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
