"""The demo: real sample photos that installed packages carry, with captions of our own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from retrieval.collection import Collection
from retrieval.contact_sheet import write_contact_sheet
from retrieval.corpus.captions import read_captions
from retrieval.errors import CorpusError
from retrieval.evaluate.evaluation import Evaluation, evaluate
from retrieval.maintain import IndexReport, Options, Watcher, index_sources
from retrieval.types import Hit

CAPTIONS = Path(__file__).with_name("captions.tsv")
QUERIES = (
    "a cat looking at the camera",
    "a woman in a space suit",
    "a cup of coffee on a table",
    "a red motorcycle in a garage",
    "a man with a camera on a tripod",
    "a temple among trees",
    "old silver coins",
    "an orange flower",
)
RESULTS = 5
# Where the packages keep their photos: scikit-image and scikit-learn.
_FOLDERS = (("skimage", "data"), ("sklearn", "datasets/images"))


@dataclass(frozen=True)
class DemoResult:
    report: IndexReport
    hits: dict[str, list[Hit]]
    contact_sheet: Path
    recall: Evaluation


def run(output: Path, options: Options, watcher: Watcher = Watcher()) -> DemoResult:
    """Index the sample photos below `output`, search, write a contact sheet, measure recall.

    Raises CorpusError if the photos' package is not installed.
    """
    photos = sample_photos()
    path = output / "samples.collection"
    report = index_sources(photos, path, options, rebuild=path.exists(), watcher=watcher)
    with Collection.open(path, device=options.device, precision=options.precision) as collection:
        found = collection.search(QUERIES, min(RESULTS, len(collection)))
        hits = {query: list(group) for query, group in groupby(found, lambda hit: hit.query)}
        sheet = output / "contact-sheet.html"
        write_contact_sheet(sheet, f"retrieval demo: {report.images} photos, {report.encoder}", hits.items())
        return DemoResult(report, hits, sheet, evaluate(collection, CAPTIONS))


def sample_photos() -> list[Path]:
    """The photos that have captions here. Raises CorpusError if they are not installed."""
    folders = []
    for package, folder in _FOLDERS:
        spec = find_spec(package)
        if spec and spec.submodule_search_locations:
            folders.append(Path(next(iter(spec.submodule_search_locations)), folder))
    names = dict.fromkeys(caption.image for caption in read_captions(CAPTIONS).captions)
    photos = [folder / name for name in names for folder in folders if (folder / name).is_file()]
    if len(photos) < len(names) / 2:
        raise CorpusError(
            "The demo's sample photos come with scikit-image, which is not installed. Install it: "
            "pip install 'crossmodal-retrieval[demo]'"
        )
    return photos
