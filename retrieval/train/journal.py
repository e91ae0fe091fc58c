"""What a run writes down while it trains: log.jsonl, and at the end curves.png.

A line a step that is reported, and one an epoch. Names of files and captions are not in it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable

from retrieval.train.validation import Recalls

log = logging.getLogger("retrieval")


@dataclass(frozen=True)
class Step:
    """One step, from 1 over all epochs. gradient: norm before clipping; temperature: 1 / logit scale."""

    step: int
    epoch: int
    loss: float
    temperature: float
    learning_rate: float
    gradient: float
    images_per_second: float


@dataclass(frozen=True)
class Epoch:
    """One pass, from 1. recalls: over photos held out; empty without any."""

    epoch: int
    step: int
    loss: float
    temperature: float
    recalls: Recalls


class Journal:
    """Appends to OUT/log.jsonl; a run that is resumed forgets the lines behind its checkpoint."""

    def __init__(
        self, output: Path, *, resumed_at: int = 0, tensorboard: bool = False,
        on_step: Callable[[Step], None] = lambda step: None, on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    ):
        """resumed_at: steps already made; 0 begins a new log."""
        self._path = output / "log.jsonl"
        self._on_step, self._on_epoch = on_step, on_epoch
        kept = [line for line in read(self._path) if line["step"] <= resumed_at] if resumed_at else []
        self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._board = _board(output) if tensorboard else None

    def step(self, step: Step) -> None:
        self._append(asdict(step))
        self._on_step(step)
        if self._board:
            for name in ("loss", "temperature", "learning_rate", "gradient", "images_per_second"):
                self._board.add_scalar(name, getattr(step, name), step.step)

    def epoch(self, epoch: Epoch) -> None:
        self._append(asdict(epoch))
        self._on_epoch(epoch)
        if self._board:
            for direction, found in epoch.recalls.items():
                for name, value in found.items():
                    self._board.add_scalar(f"{direction}/{name}", value, epoch.step)

    def close(self) -> None:
        if self._board:
            self._board.close()

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a last one that was cut is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def draw_curves(output: Path) -> Path | None:
    """Loss and recall over steps, as OUT/curves.png; None, and a notice, without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.info("No curves.png: matplotlib is missing. Install it: pip install 'crossmodal-retrieval[train]'")
        return None
    lines = read(output / "log.jsonl")
    steps, epochs = ([line for line in lines if kind in line] for kind in ("learning_rate", "recalls"))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([line["step"] for line in steps], [line["loss"] for line in steps])
    left.set(xlabel="step", ylabel="loss", title="Training")
    for direction, dashes in (("text_to_image", "-"), ("image_to_text", "--")):
        for name in ("R@1", "R@5", "R@10"):
            points = [(line["step"], line["recalls"][direction][name]) for line in epochs if line["recalls"]]
            if points:
                right.plot(*zip(*points), dashes, label=f"{direction.replace('_', ' ')}, {name}")
    right.set(xlabel="step", ylabel="percent", title="Photos held out", ylim=(0, 100))
    if right.lines:
        right.legend(fontsize="small")
    path = output / "curves.png"
    figure.savefig(path, dpi=120)
    return path


def _board(output: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("TensorBoard is missing, so nothing is written for it. Install it: pip install tensorboard")
        return None
    return SummaryWriter(output / "tensorboard")
