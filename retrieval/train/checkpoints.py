"""Checkpoints: all that a run needs to go on as if it had never stopped.

    OUT/checkpoints/last.pt   written every few minutes and after each epoch, over the one before
    OUT/checkpoints/best.pt   the weights of the epoch that validation liked best
    OUT/checkpoints/views     what frozen layers say of the photos, where that is kept; see `frozen_front`

A checkpoint is whole or not there: it is written beside and renamed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from retrieval.errors import TrainingError
from retrieval.files import replacing

FORMAT = 1


class Checkpoints:
    """Those of one run, in one folder.

    run  what has to be the same for a checkpoint to be gone on from: settings, data, towers
    """

    def __init__(self, output: Path, run: dict[str, Any]):
        self.folder = output / "checkpoints"
        self._run = run
        self.last, self.best, self.views = (self.folder / name for name in ("last.pt", "best.pt", "views"))

    def save(self, state: dict[str, Any]) -> None:
        """Raises TrainingError where it cannot be written; the one before is then still there."""
        self._write(self.last, {"format": FORMAT, "run": self._run, "state": state})

    def save_best(self, weights: dict[str, torch.Tensor]) -> None:
        """Raises TrainingError as `save` does."""
        self._write(self.best, {"format": FORMAT, "run": self._run, "weights": weights})

    def resume(self) -> dict[str, Any] | None:
        """The state last saved; None if this folder has none.

        Raises TrainingError if it is damaged, of a newer format, or of another run.
        """
        if not self.last.exists():
            return None
        content = self._read(self.last)
        changed = [name for name, value in self._run.items() if content["run"].get(name) != value]
        if changed:
            name = changed[0]
            raise TrainingError(
                f"{self.last} is of a run with {name} {content['run'].get(name)!r}, and now it is {self._run[name]!r}. "
                "Resume with what it was begun with, or train into another folder."
            )
        return content["state"]

    def found(self) -> dict[str, Any] | None:
        """The state last saved, of whatever run; None if this folder has none. Raises TrainingError as `resume` does."""
        return self._read(self.last)["state"] if self.last.exists() else None

    def best_weights(self) -> dict[str, torch.Tensor] | None:
        """None if no epoch was ever best."""
        return self._read(self.best)["weights"] if self.best.exists() else None

    def clear(self) -> None:
        """Remove those of an earlier run in the same folder."""
        for path in (self.last, self.best):
            path.unlink(missing_ok=True)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as beside:
                torch.save(content, beside)
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
            kept = f" {path} of before is still whole; resume from it with --resume." if path.exists() else ""
            raise TrainingError(f"{path} cannot be written ({error}). Make room and start again.{kept}") from error

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            version = content["format"]
        except Exception as error:  # torch, zipfile and pickle raise as they please
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            reason = reason.partition(". ")[0].rstrip(".")  # torch goes on with advice to programmers
            raise TrainingError(
                f"{path} is damaged ({reason[:200]}). Remove it, or begin anew with --restart."
            ) from error
        if version > FORMAT:
            raise TrainingError(f"{path} is of a newer version of this program. Upgrade, or begin anew with --restart.")
        return content
