"""One benchmark run: models, indexes, both directions, every language, on one set of captioned images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from indexes import IndexSpec, cap_threads
from retrieval import __version__
from retrieval.collection import Collection
from retrieval.corpus.qrels import read_judgements
from retrieval.embedded import open_embedded
from retrieval.encoders import AUTO, check_name
from retrieval.errors import EncoderMismatchError
from retrieval.evaluate.calibrated import told_calibration
from retrieval.evaluate.compare import Difference, differences
from retrieval.evaluate.evaluation import Evaluation, evaluate_task
from retrieval.evaluate.failures import Failure, worst_failures
from retrieval.evaluate.index_losses import MOST_QUERIES, IndexScores, index_scores
from retrieval.evaluate.published import (
    PublishedCheck, check_published, published_numbers, require_published,
)
from retrieval.evaluate.relevance import AutoThreshold, auto_threshold
from retrieval.evaluate.request import Request
from retrieval.evaluate.reranked import Reranked, score_reranked
from retrieval.evaluate.subject import Subject, find_subject
from retrieval.evaluate.task import Task, make_task
from retrieval.maintain import Watcher
from retrieval.rank.rerankers import check_reranker, check_reranker_fits

Progress = Callable[[str, int, int], None]  # (what, done, total)
_LIBRARIES = ("torch", "open_clip_torch", "faiss-gpu", "faiss-cpu", "numpy")
_FIXED_RULES = (
    "Ranks are exact; among equal scores the earlier document comes first.",
    "Intervals hold 95 %, by a bootstrap over images ({resamples:,} resamples, seed {seed}).",
)


@dataclass(frozen=True, eq=False)
class BenchmarkReport:
    """Everything that one run found; the shapes are those of the modules named in the imports.

    subject      what was measured, for a title: "coco (test)", "Photos.collection"
    rules        sentences: subset, captions, right answers, ties, intervals
    evaluations  one per model, in the order asked for; the first is the reference of differences
                 between models
    indexes      per model, one per index and search setting
    failures     model -> its worst queries; empty unless asked for, as are thresholds
    reranked     model -> its searches with a second look, likewise
    paths        image id -> its file
    unreadable   (path, reason) of images that could not be embedded
    settings     ks, resamples, seed, device, threads, versions: what it takes to repeat the run
    """

    subject: str
    rules: list[str]
    evaluations: list[Evaluation]
    differences: list[Difference] = field(default_factory=list)
    indexes: list[IndexScores] = field(default_factory=list)
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    published: list[PublishedCheck] = field(default_factory=list)
    thresholds: list[AutoThreshold] = field(default_factory=list)
    reranked: dict[str, Reranked] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict, repr=False)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    @property
    def task(self) -> Task:
        return self.evaluations[0].task

    def to_json(self) -> dict[str, object]:
        """Fractions, not percentages."""
        return {
            "subject": self.subject, "rules": self.rules,
            "models": [one.to_json() for one in self.evaluations],
            "differences": [one.to_json() for one in self.differences],
            "indexes": [one.to_json() for one in self.indexes],
            "failures": {model: [asdict(one) for one in failures] for model, failures in self.failures.items()},
            "published": [one.to_json() for one in self.published],
            "reranked": {model: one.to_json() for model, one in self.reranked.items()},
            "auto_threshold": [one.to_json() for one in self.thresholds],
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "settings": self.settings,
        }


def run_benchmark(request: Request, progress: Progress = lambda what, done, total: None) -> BenchmarkReport:
    """Measure every model and every index on the same task.

    What is published was measured with exact preprocessing, so a comparison with it is, too.

    Raises CorpusError, CaptionsError (also for captions that a collection is calibrated with), EncoderError,
    CollectionError, SpecError, PublishedError, RerankError.
    """
    if request.published:
        request = replace(request, exact_preprocess=True)
    subject = find_subject(request.target, request.captioning, root=request.root)
    if request.default and not request.models and subject.collection is None:
        request = replace(request, models=(request.default,))
    _check(request, subject)
    with ExitStack() as opened:
        collections = [opened.enter_context(one) for one in _collections(subject, request, progress)]
        task = make_task(
            subject.captions, _common_ids(collections), judgements=request.judgements, extra=request.extra,
            rules=subject.rules, strict=request.strict,
        )
        names = _names(collections, request)
        notes = [note for collection, name in zip(collections, names) if request.calibrated
                 for note in told_calibration(collection.calibration, name, task)]
        for collection in collections if request.rerank is not None else ():
            encoder = collection.manifest.encoder
            check_reranker_fits(request.rerank, encoder.name, encoder.fingerprint)
        evaluations = [
            evaluate_task(
                collection, task, model=name, ks=request.ks, sampling=request.sampling,
                calibrated=request.calibrated, progress=partial(progress, f"Captions, {name}"),
            )
            for collection, name in zip(collections, names)
        ]
        looked_again = {
            name: score_reranked(
                evaluation, collection, collection.reranker(request.rerank), ks=request.ks, sampling=request.sampling,
                progress=lambda what, done, total, name=name: progress(f"{what}, {name}", done, total),
            )
            for name, collection, evaluation in zip(names, collections, evaluations) if request.rerank is not None
        }
        indexes = [
            scores
            for collection, evaluation in zip(collections, evaluations)
            for scores in _index_scores(collection, evaluation, request, progress)
        ]
        thresholds = [
            auto_threshold(evaluation, collection.load_encoder(), request.sampling)
            for collection, evaluation in zip(collections, evaluations) if request.thresholds
        ]
        paths = _paths(collections[0])
        unreadable = {path: reason for collection in collections for path, reason in collection.catalog.failed()}
    first, *others = evaluations
    return BenchmarkReport(
        subject=subject.name,
        rules=[*_rules(task, request), *notes, *(one.told(name) for name, one in looked_again.items())],
        evaluations=evaluations,
        differences=[
            *(difference for other in others for difference in differences(
                other.model, other.directions, first.model, first.directions, request.sampling)),
            *(difference for name, one in looked_again.items() for difference in one.lift(name, request.sampling)),
        ],
        indexes=indexes,
        failures={one.model: worst_failures(one, paths, request.failures) for one in evaluations}
        if request.failures else {},
        published=[
            check for one in evaluations
            for check in check_published(one.encoder, subject.dataset, one.directions)
        ] if request.published else [],
        thresholds=thresholds,
        reranked=looked_again,
        settings=_settings(request),
        paths=paths,
        unreadable=sorted(unreadable.items()),
    )


def _check(request: Request, subject: Subject) -> None:
    """Raise what would else be raised after hours of embedding."""
    for model in request.models:
        check_name(model)
    if request.rerank is not None:
        check_reranker(request.rerank)
    for file in filter(None, (request.judgements, request.extra)):
        read_judgements(file)
    if request.published:
        require_published(subject.dataset)
        for model in set(request.models) - {AUTO}:
            published_numbers(model, subject.dataset)


def _collections(subject: Subject, request: Request, progress: Progress) -> list[Collection]:
    if subject.collection is not None:
        if request.models:
            recorded = Collection.open(subject.collection)
            recorded.close()
            raise EncoderMismatchError(
                f"{subject.collection} holds vectors of {recorded.manifest.encoder.name} alone. To measure "
                "other models give the folder of images in its place."
            )
        return [Collection.open(subject.collection, device=request.device, precision=request.precision)]
    collections: list[Collection] = []
    try:
        for model in request.models or (None,):
            collections.append(_embedded(subject.folder, model, request, progress))
            for factory in request.indexes:  # before the next model is embedded
                IndexSpec(factory).validate(collections[-1].manifest.encoder.dim)
    except BaseException:
        for collection in collections:
            collection.close()
        raise
    return collections


def _embedded(folder: Path, model: str | None, request: Request, progress: Progress) -> Collection:
    what = f"Images, {model}" if model else "Images"
    done = total = 0

    def start(count: int) -> None:
        nonlocal total
        total = count

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, total)

    return open_embedded(
        [folder], model, device=request.device, precision=request.precision,
        batch_size=request.batch_size, exact_preprocess=request.exact_preprocess, watcher=Watcher(start, advance),
    )


def _common_ids(collections: Sequence[Collection]) -> list[str]:
    """Images that every model has: what it could not read, no model is judged by."""
    first, *others = ([id for id, _ in collection.catalog.indexed()] for collection in collections)
    shared = set(first).intersection(*others)
    return [id for id in first if id in shared]


def _names(collections: Sequence[Collection], request: Request) -> list[str]:
    """What the user called each model; told apart where one was named twice."""
    names = [model or collection.manifest.encoder.name
             for collection, model in zip(collections, request.models or (None,) * len(collections))]
    return [name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, 1)]


def _index_scores(
    collection: Collection, evaluation: Evaluation, request: Request, progress: Progress
) -> list[IndexScores]:
    specs = [IndexSpec(factory) for factory in request.indexes] or [collection.manifest.index.spec]
    done = 0

    def next_index(factory: str) -> None:
        nonlocal done
        done += 1
        progress(f"Indexes, {evaluation.model}", done, len(specs))

    return index_scores(
        evaluation, specs, device=request.device if request.device in ("auto", "cpu") else "auto",
        ks=request.ks, sampling=request.sampling, on_index=next_index,
    )


def _paths(collection: Collection) -> dict[str, str]:
    rows = [row for _, row in collection.catalog.indexed()]
    return dict(collection.catalog.documents_of_rows(rows).values())


def _rules(task: Task, request: Request) -> list[str]:
    captioned = int((task.image_to_text.counts > 0).sum())
    counted = (
        f"{len(task.ids):,} images compete, {captioned:,} of them are queries; {len(task.captions):,} captions."
    )
    fixed = [rule.format(resamples=request.sampling.resamples, seed=request.sampling.seed) for rule in _FIXED_RULES]
    sampled = []
    if len(task.captions) > MOST_QUERIES:
        sampled = [f"Indexes are measured with {MOST_QUERIES:,} of the captions, drawn at random (seed {request.sampling.seed})."]
    return [counted, *task.rules, *fixed, *sampled]


def _settings(request: Request) -> dict[str, object]:
    versions = {"crossmodal-retrieval": __version__}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return {
        "ks": list(request.ks), "resamples": request.sampling.resamples, "seed": request.sampling.seed,
        "device": request.device, "precision": request.precision, "exact_preprocess": request.exact_preprocess,
        "threads": cap_threads(), "cpus": os.cpu_count(), "versions": versions,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
