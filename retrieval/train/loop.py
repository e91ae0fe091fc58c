"""The training loop. What it turns stands in modules of their own: batches, learner, validation, checkpoints."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Callable

from retrieval.train.batches import Batches
from retrieval.train.checkpoints import Checkpoints
from retrieval.train.journal import Epoch, Journal, Step
from retrieval.train.learner import Learner
from retrieval.train.processes import Processes
from retrieval.train.validation import Recalls, Validation, mean_recall

REPORT_SECONDS, CHECKPOINT_SECONDS = 10, 300


@dataclass
class Progress:
    """Where a run is, beside its weights. epoch and in_epoch: finished epochs, and steps since."""

    epoch: int = 0
    in_epoch: int = 0
    loss: float = 0.0  # summed over the steps of this epoch
    best: float = -1.0  # mean recall, in percent
    best_epoch: int = 0
    best_recalls: Recalls = field(default_factory=dict)
    last_loss: float = float("nan")  # mean of the last whole epoch


@dataclass(frozen=True)
class Ended:
    """How a run ended. interrupted: it was stopped, and can be resumed."""

    progress: Progress
    interrupted: bool = False


def fit(
    learner: Learner, batches: Batches, checkpoints: Checkpoints, journal: Journal, progress: Progress, *,
    processes: Processes, validation: Validation | None = None, stop: Callable[[], bool] = lambda: False,
) -> Ended:
    """Train to the last epoch, or until validation finds nothing better for `patience` epochs, or `stop`.

    Raises DivergedError if the loss is no longer a number, TrainingError if a checkpoint cannot be written.
    """
    settings = learner.settings
    first = processes.is_first
    kept = reported = monotonic()
    since = 0  # photos since the last report
    # Asked before each epoch, the first included: a run that is resumed may have ended so already.
    while progress.epoch < settings.epochs and not processes.from_first(
        _nothing_better(progress, settings.patience, validation)
    ):
        with closing(batches.epoch(progress.epoch, progress.in_epoch)) as stream:
            for batch in stream:
                loss, gradient = learner.learn(batch)
                progress.in_epoch += 1
                progress.loss += loss
                since += len(batch.photos) * processes.world
                now = monotonic()
                if first and (now - reported >= REPORT_SECONDS or learner.done == 1):
                    journal.step(Step(
                        learner.done, progress.epoch + 1, loss, learner.temperature, learner.learning_rate,
                        gradient, since / (now - reported),
                    ))
                    reported, since = now, 0
                if processes.from_first(stop()):
                    _save(learner, checkpoints, progress, first)
                    return Ended(progress, interrupted=True)
                if now - kept >= CHECKPOINT_SECONDS:
                    _save(learner, checkpoints, progress, first)
                    kept = monotonic()
        progress.last_loss = progress.loss / batches.steps
        progress.epoch, progress.in_epoch, progress.loss = progress.epoch + 1, 0, 0.0
        if first:
            recalls = _validate(learner, checkpoints, progress, validation)
            journal.epoch(Epoch(progress.epoch, learner.done, progress.last_loss, learner.temperature, recalls))
        _save(learner, checkpoints, progress, first)
        kept = reported = monotonic()  # validation is not training
        since = 0
    return Ended(progress)


def _validate(
    learner: Learner, checkpoints: Checkpoints, progress: Progress, validation: Validation | None
) -> Recalls:
    if validation is None:
        return {}
    with learner.at_rest():
        recalls = validation(learner)
    if mean_recall(recalls) > progress.best:
        progress.best, progress.best_epoch, progress.best_recalls = mean_recall(recalls), progress.epoch, recalls
        checkpoints.save_best(learner.outcome())
    return recalls


def _nothing_better(progress: Progress, patience: int, validation: Any) -> bool:
    return bool(validation and patience) and progress.epoch - progress.best_epoch >= patience


def _save(learner: Learner, checkpoints: Checkpoints, progress: Progress, first: bool) -> None:
    if first:
        checkpoints.save({"learner": learner.state(), "progress": vars(progress).copy()})
