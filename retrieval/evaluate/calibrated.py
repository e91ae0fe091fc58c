"""What must be said of a benchmark of calibrated searches; and when it must not be made."""

from __future__ import annotations

from retrieval.calibration import Calibration
from retrieval.errors import CaptionsError
from retrieval.evaluate.task import Task

_BY_CHANCE = 0.01  # of the captions: short ones are written twice by people who never met


def told_calibration(calibration: Calibration | None, model: str, task: Task) -> list[str]:
    """Sentences on the calibration of one model's searches, if there is one.

    Raises CaptionsError if more than 1 in 100 captions are references: these images would be
    ranked by what is asked of them.
    """
    if calibration is None:
        return []
    texts = [caption.text for caption in task.captions]
    known = calibration.known_among(texts)
    if known > _BY_CHANCE * len(texts):
        raise CaptionsError(
            f"{known:,} of the {len(texts):,} captions are among the references that {model} is calibrated "
            "with, so they cannot measure it. Use other captions, or --no-calibration."
        )
    shared = f"; {known} of the captions asked are among them" if known else ""
    return [
        f"Searches for words are calibrated for {model}: from each image's score {calibration.weight:g} times its mean "
        f"over the nearest {calibration.k} of {len(calibration.references):,} reference captions is taken"
        f" ({calibration.source}{shared}). The line \"calibrated\" is what a search gives, and the others, of scores alone, "
        "what it gives with --no-calibration."
    ]
