"""Are measured numbers the published ones? Zero-shot retrieval of open_clip's models, as its authors print it.

`published.csv` holds R@1, R@5 and R@10 of the source below as fractions with four digits. Both
data sets are Karpathy's test splits with five captions an image: flickr30k has 1,000 images, coco
5,000. The source's "image retrieval" is text to image, its "text retrieval" image to text.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from retrieval.errors import PublishedError
from retrieval.evaluate.scores import DirectionScores

SOURCE = (
    "open_clip (github.com/mlfoundations/open_clip/blob/89fb801f1e6087880e951fc8354b8a2077b79c6d/"
    "docs/openclip_retrieval_results.csv, 2026-06-27)"
)
DATASETS = ("coco", "flickr30k")
TOLERANCE = 0.002
_ROUNDING = 5e-5  # the source has four digits
_QUICK_GELU = "-quickgelu"

_Numbers = dict[tuple[str, str, int], float]  # (dataset, direction, k) -> R@k


@dataclass(frozen=True)
class PublishedCheck:
    """One published R@k beside the measured one, both as fractions. model: as the caller names it."""

    model: str
    dataset: str
    direction: str
    k: int
    published: float
    measured: float
    matches: bool
    source: str

    @property
    def difference(self) -> float:
        """Measured less published, in points of a hundred."""
        return 100 * (self.measured - self.published)

    def to_json(self) -> dict[str, object]:
        return {
            "model": self.model, "dataset": self.dataset, "direction": self.direction, "k": self.k,
            "published": self.published, "measured": round(self.measured, 6), "matches": self.matches,
            "source": self.source,
        }


def check_published(model: str, dataset: str, scores: Sequence[DirectionScores]) -> list[PublishedCheck]:
    """Compare every R@k of `scores` that is published for this model and data set.

    model    "ViT-B-32/openai"; "ViT-B-32" for its default weights; "hf-hub:timm/ViT-B-16-SigLIP" for
             any repository that open_clip's own registry takes weights from
    dataset  "flickr30k" or "coco"

    They match within 0.2 points and half a unit of the last published digit. Where the source has
    weights under both of an architecture's activations, QuickGELU's numbers count: all of these
    weights were trained with it, and are loaded with it here whatever the architecture's name says.

    Raises PublishedError if nothing is published that could be compared.
    """
    numbers = published_numbers(model, dataset)
    checks = []
    for one in scores:
        for k, measured in one.hit_rates.items():
            if (dataset, one.direction, k) in numbers:
                published = numbers[dataset, one.direction, k]
                matches = abs(measured - published) <= TOLERANCE + _ROUNDING
                checks.append(
                    PublishedCheck(model, dataset, one.direction, k, published, measured, matches, SOURCE)
                )
    if not checks:
        raise PublishedError("Published are R@1, R@5 and R@10; measure at one of these, such as -k 1,5,10.")
    return checks


def published_numbers(model: str, dataset: str) -> _Numbers:
    """What is published for a model, of all data sets; names as for `check_published`.

    Raises PublishedError if nothing is, for the model or for the data set.
    """
    require_published(dataset)
    return _numbers_of(model)


def require_published(dataset: str) -> None:
    """Raises PublishedError if nothing is published for the data set."""
    if dataset not in DATASETS:
        what = f"the data set {dataset!r}" if dataset else "images of one's own"
        raise PublishedError(
            f"No numbers are published for {what}. Compare on {' or '.join(DATASETS)}, with --root FOLDER."
        )


@cache
def _table() -> dict[str, _Numbers]:
    """Published numbers by "MODEL/PRETRAINED"."""
    table: dict[str, _Numbers] = {}
    with resources.files("retrieval.evaluate").joinpath("published.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            numbers = table.setdefault(f"{row['model']}/{row['weights']}", {})
            numbers[row["dataset"], row["direction"], int(row["k"])] = float(row["value"])
    return table


def _numbers_of(model: str) -> _Numbers:
    table = _table()
    names = _full_names(model)
    rows = {row for row in map(_row, names) if row}
    if len(rows) == 1:  # where two are taken from one repository there is no telling which it holds
        return table[rows.pop()]
    name = names[0] if names else model.rpartition("/")[2]
    by_lower = {one.lower(): one for one in table}
    near = [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, 3, 0.5)]
    nearest = f" Nearest of the {len(table)} models with published numbers: {', '.join(near)}." if near else ""
    raise PublishedError(f"No numbers are published for the model {model!r}.{nearest}")


def _row(name: str) -> str | None:
    """The table's name for MODEL/PRETRAINED."""
    architecture, _, weights = name.partition("/")
    plain = architecture.removesuffix(_QUICK_GELU)
    candidates = (f"{plain}{_QUICK_GELU}/{weights}", f"{plain}/{weights}")
    return next((known for known in candidates if known in _table()), None)


def _full_names(model: str) -> list[str]:
    """MODEL/PRETRAINED; every one that open_clip takes from there, if a repository was named."""
    if model.startswith("hf-hub:"):
        from retrieval.encoders.names import models_of_repository  # loads open_clip

        return models_of_repository(model.removeprefix("hf-hub:"))
    if "/" in model or not any(known.startswith(f"{model}/") for known in _table()):
        return [model]
    from retrieval.encoders.names import default_tag

    return [f"{model}/{default_tag(model)}"]
