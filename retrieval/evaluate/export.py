"""Results and data sets for other tools: TREC runs and judgements, tables of queries, webdataset shards.

    FOLDER/trec/            text_to_image.run.txt  text_to_image.qrels.txt  image_to_text...
    FOLDER/csv/             text_to_image.csv  image_to_text.csv
    FOLDER/clip-benchmark/  dataset_type.txt  test/nshards.txt  test/0.tar ...
"""

from __future__ import annotations

import csv
import io
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np

from indexes import exact_search
from retrieval.corpus import addresses
from retrieval.errors import ExportError, ImageError
from retrieval.evaluate.evaluation import Evaluation
from retrieval.evaluate.scores import MEDIAN_RANK, RANKS, TEXT_TO_IMAGE, DirectionScores
from retrieval.evaluate.task import Task
from retrieval.files import obstacle
from retrieval.images import open_image

TREC, CSV, CLIP_BENCHMARK = KINDS = ("trec", "csv", "clip-benchmark")
DEPTH = 100  # results of a query in a TREC run
RESULTS_LISTED = 10
UNDETERMINED = "und"  # ISO 639's code for captions whose language nobody names
SAMPLES_A_SHARD = 10_000
BYTES_A_SHARD = 10**9
# trec_eval orders by score in float32, which resolves 1.2e-7 around 1.
_SCORE_STEP = 2e-7
_COPIED = {".jpg": "jpg", ".jpeg": "jpg", ".jpe": "jpg", ".jfif": "jpg", ".png": "png", ".webp": "webp"}


class Measured(Protocol):
    """What `export` needs of a report. paths: image id -> its file."""

    evaluations: Sequence[Evaluation]
    paths: Mapping[str, str]


def export(folder: Path, report: Measured, kinds: Sequence[str]) -> list[Path]:
    """Write each of these KINDS into its own folder, and return the folders.

    Runs and tables of several models get a folder each within it, captions of several languages a
    data set each.

    Raises ExportError as the functions below do.
    """
    check_targets(folder, kinds)
    written = []
    for kind in dict.fromkeys(kinds):
        target = folder / kind
        if kind == CLIP_BENCHMARK:
            task = report.evaluations[0].task
            for language in task.languages:
                part, _ = task.in_language(language)
                apart = target / (_file_name(language) or UNDETERMINED) if len(task.languages) > 1 else target
                export_webdataset(apart, report.paths, part)
        else:
            write = {TREC: export_trec, CSV: export_csv}[kind]
            for name, one in zip(_folder_names([one.model for one in report.evaluations]), report.evaluations):
                write(target / name if len(report.evaluations) > 1 else target, one)
        written.append(target)
    return written


def check_targets(folder: Path, kinds: Sequence[str]) -> None:
    """Raises ExportError if `export` would: better now than after an hour of measuring."""
    for kind in kinds:
        _refuse_content(folder / kind)
        reason = obstacle(folder / kind)
        if reason:
            raise ExportError(f"{folder / kind} cannot be written: {reason}. Give another folder.")


def export_trec(folder: Path, evaluation: Evaluation, *, depth: int = DEPTH) -> list[Path]:
    """Write what was found and what is right as trec_eval reads it; returns the files.

        text_to_image.run.txt     query Q0 document rank score model
        text_to_image.qrels.txt   query 0 document grade

    With languages, those are text_to_image.zh.run.txt and so on. An image is called by its id; a
    caption by its own where every caption has one, else "image#n", its image's nth from 0. Blanks
    and % are percent-encoded. Grades stand as they are: trec_eval wants whole ones.

    trec_eval ignores ranks, orders by score, and puts equal ones into an order of its own. So
    scores descend strictly: one less than 2e-7 below the one before it is lowered to that.
    Metrics at k up to `depth` come out as measured here; MRR, mAP and recall beyond only if
    `depth` is the number of documents.

    Raises ExportError if the folder is not empty or cannot be written.
    """
    names = _caption_names(evaluation.task)
    model = _without_blanks(evaluation.model)
    files = []
    with _writing(folder):
        for scores in evaluation.directions:
            search = _searched(evaluation, scores, names, depth)
            stem = ".".join(filter(None, [scores.direction, _file_name(scores.language)]))
            run, qrels = folder / f"{stem}.run.txt", folder / f"{stem}.qrels.txt"
            with open(run, "w", encoding="utf-8", newline="\n") as lines:
                lines.writelines(_run_lines(search, model))
            with open(qrels, "w", encoding="utf-8", newline="\n") as lines:
                lines.writelines(_qrels_lines(search, scores))
            files += [run, qrels]
    return files


def export_csv(folder: Path, evaluation: Evaluation) -> list[Path]:
    """Write one table per direction, a line per query: its metrics and its first ten results.

    Columns: query (names as in `export_trec`, nothing encoded), image (that asks, or of the caption
    that asks), text, language, first_rank, every metric as a fraction, result_1 to result_10.
    Metrics of a query without a right answer are empty.

    Raises ExportError if the folder is not empty or cannot be written.
    """
    task, names = evaluation.task, _caption_names(evaluation.task)
    files: dict[str, Path] = {}
    with _writing(folder):
        for scores in evaluation.directions:
            is_new = scores.direction not in files
            path = files.setdefault(scores.direction, folder / f"{scores.direction}.csv")
            metrics = [name for name in scores.per_query if name not in RANKS]
            search = _searched(evaluation, scores, names, RESULTS_LISTED)
            by_text = scores.direction == TEXT_TO_IMAGE
            with open(path, "w" if is_new else "a", encoding="utf-8", newline="") as lines:
                table = csv.writer(lines)
                if is_new:
                    results = [f"result_{rank}" for rank in range(1, RESULTS_LISTED + 1)]
                    table.writerow(["query", "image", "text", "language", "first_rank", *metrics, *results])
                for query, place in enumerate(search.asked):
                    image = task.ids[task.images[place] if by_text else place]
                    values = [scores.per_query[name][query] for name in (MEDIAN_RANK, *metrics)]
                    found = [search.documents[row] for row in search.rows[query]]
                    table.writerow([
                        search.queries[query], image, task.captions[place].text if by_text else "", scores.language,
                        *("" if np.isnan(value) else f"{value:.9g}" for value in values), *found,
                    ])
    return list(files.values())


def export_webdataset(folder: Path, images: Mapping[str, str | Path], task: Task, *, split: str = "test") -> list[Path]:
    """Write captioned images as CLIP_benchmark's retrieval data sets are laid out; returns the shards.

    images  image id -> its file

    A sample is an image and its captions, one a line; line breaks within a caption become spaces.
    JPEG, PNG and WebP files are copied byte by byte (their EXIF orientation, which CLIP_benchmark
    ignores, with them), of other formats the upright picture is written as PNG. The layout has no
    distractors, judgements or languages: images without captions are left out, and a caption is
    right for its own image alone.

    Raises ExportError if the folder is not empty or cannot be written, or an image cannot be read.
    """
    texts: dict[int, list[str]] = {}
    for caption, image in zip(task.captions, task.images.tolist()):
        texts.setdefault(image, []).append(" ".join(caption.text.splitlines()))
    with _writing(folder):
        (folder / split).mkdir()
        (folder / "dataset_type.txt").write_text("retrieval\n", encoding="utf-8")
        with _Shards(folder / split) as shards:
            for number, image in enumerate(sorted(texts)):
                extension, content = _image_file(images[task.ids[image]])
                captions = "\n".join(texts[image]).encode()
                shards.add(f"s{number:07d}", {extension: content, "txt": captions})
        # Last, so that what was cut short is not taken for a data set.
        (folder / split / "nshards.txt").write_text(f"{len(shards.paths)}\n", encoding="utf-8")
    return shards.paths


@dataclass(frozen=True, eq=False)
class _Search:
    """Names of q queries and all documents, and the first results: scores, rows (q, k).

    asked  (q,) place of each query in the task's captions or ids
    """

    asked: np.ndarray
    queries: list[str]
    documents: list[str]
    scores: np.ndarray
    rows: np.ndarray


def _searched(evaluation: Evaluation, scores: DirectionScores, caption_names: Sequence[str], k: int) -> _Search:
    task = evaluation.task
    captions = task.captions_in(scores.language)
    names = [caption_names[place] for place in captions]
    texts = evaluation.texts[captions]
    if scores.direction == TEXT_TO_IMAGE:
        found = exact_search(evaluation.images, texts, min(k, len(task.ids)))
        return _Search(captions, names, task.ids, *found)
    asked = scores.clusters  # images that have captions
    found = exact_search(texts, evaluation.images[asked], min(k, len(captions)))
    return _Search(asked, [task.ids[image] for image in asked], names, *found)


def _caption_names(task: Task) -> list[str]:
    ids = [caption.id for caption in task.captions]
    if all(ids) and len(set(ids)) == len(ids):
        return ids
    met = [0] * len(task.ids)
    names = []
    for image in task.images.tolist():
        names.append(f"{task.ids[image]}#{met[image]}")
        met[image] += 1
    return names


def _run_lines(search: _Search, model: str) -> Iterator[str]:
    documents = [_without_blanks(name) for name in search.documents]
    steps = _SCORE_STEP * np.arange(search.scores.shape[1])
    # Adding the steps turns "a step below the one before" into "not above the one before".
    descending = np.minimum.accumulate(search.scores.astype(np.float64) + steps, axis=1) - steps  # (q, k)
    for query, rows, scores in zip(search.queries, search.rows, descending):
        name = _without_blanks(query)
        for rank, (row, score) in enumerate(zip(rows, scores), 1):
            yield f"{name} Q0 {documents[row]} {rank} {score:.9f} {model}\n"


def _qrels_lines(search: _Search, scores: DirectionScores) -> Iterator[str]:
    relevance = scores.ranks.relevance
    for query, row, grade in zip(relevance.queries, relevance.rows, relevance.grades):
        query, document = _without_blanks(search.queries[query]), _without_blanks(search.documents[row])
        yield f"{query} 0 {document} {grade:g}\n"


def _without_blanks(name: str) -> str:
    return re.sub(r"[\s%]", lambda blank: quote(blank[0]), name)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def _folder_names(models: Sequence[str]) -> list[str]:
    """A folder's name for each model, never hidden; numbered where two would share one."""
    names = [_file_name(model).lstrip("._") or "model" for model in models]
    return names if len(set(names)) == len(names) else [f"{at}_{name}" for at, name in enumerate(names, 1)]


class _Shards:
    """Tars 0.tar, 1.tar, ...; the next one begins where a sample would make one too large."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.paths: list[Path] = []
        self._archive: tarfile.TarFile | None = None
        self._samples = self._bytes = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_) -> None:
        if self._archive is not None:
            self._archive.close()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        size = sum(map(len, members.values()))
        if self._archive is None or self._samples == SAMPLES_A_SHARD or self._bytes + size > BYTES_A_SHARD:
            self.__exit__()
            self.paths.append(self.folder / f"{len(self.paths)}.tar")
            self._archive = tarfile.open(self.paths[-1], "w")
            self._samples = self._bytes = 0
        for extension, content in members.items():
            member = tarfile.TarInfo(f"{key}.{extension}")
            member.size = len(content)
            self._archive.addfile(member, io.BytesIO(content))
        self._samples += 1
        self._bytes += size


def _image_file(address: str) -> tuple[str, bytes]:
    """Extension and content under which a picture goes into a shard."""
    suffix = os.path.splitext(address)[1].lower()
    try:
        content = addresses.read(address)
        if suffix in _COPIED:
            return _COPIED[suffix], content
        buffer = io.BytesIO()
        open_image(content)[0].save(buffer, "PNG")
        return "png", buffer.getvalue()
    except ImageError as error:
        raise ExportError(f"{address} cannot be exported: {error}. Restore or mend it, or index again.") from error


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make the folder, which must be new or empty, and put what goes wrong in it into words."""
    _refuse_content(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ExportError(f"{folder} cannot be written: {error.strerror or error}.") from error


def _refuse_content(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        what = "already holds files" if folder.is_dir() else "is a file"
        raise ExportError(f"{folder} {what}, and an export overwrites nothing. Give another folder.")
