"""Making collections from folders, archives, lists and tables, and bringing them up to date."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from retrieval import ingest
from retrieval.calibration import carry_over
from retrieval.catalog import Catalog
from retrieval.corpus.found import Scan
from retrieval.corpus.moving import sample, told_passed_over
from retrieval.corpus.scanning import Source, TableOptions, scan
from retrieval.encoders import AUTO, check_same_encoder, load_encoder, load_recorded_encoder
from retrieval.errors import CollectionError, CorpusError
from retrieval.manifest import IndexRecord, Manifest
from retrieval.reading import EncoderOnDemand
from retrieval.retune import AskedIndex
from retrieval.stored import StoredCollection
from retrieval.writing import (
    BusyError, beside, create, is_empty, is_vacant, only_writer, opened_to_write, put_back,
    remove_leftovers, require_collection, require_only_ours, require_writable, storage_errors, swap,
)


@dataclass(frozen=True)
class Options:
    """How to encode. model None means the collection's own encoder, "auto" for a new one.

    batch_size    images committed at once, at most; None: 64, on CUDA 512
    retry_failed  read files again that could not be read before, though they did not change
    captions      embed captions too, or drop their vectors; None goes on as the collection does
    frames        of each animation, at most
    video_every   seconds between the frames of a video; None passes over videos in folders
    fuse          weights to search images fused with their captions, see `retrieval.fused`, {} no
                  longer to do so; None goes on as the collection does
    index         what to search with, and how well; see AskedIndex
    compile       compile the encoder's image tower
    """

    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    exact_preprocess: bool = False
    retry_failed: bool = False
    captions: bool | None = None
    frames: int = 1
    video_every: float | None = None
    fuse: Mapping[str, float] | None = None
    index: AskedIndex = AskedIndex()
    compile: bool = False

    @property
    def encoder_settings(self) -> dict[str, Any]:
        """For `load_encoder`."""
        return {"device": self.device, "precision": self.precision, "exact_preprocess": self.exact_preprocess,
                "compile": self.compile}


@dataclass(frozen=True)
class Watcher:
    """How a run tells how far it is: the number of files to read, then each batch. Captions to
    embed are told behind the files: the number of both together, then each batch.

    stop  asked now and then; once true, the run commits the batch in hand and ends. A rebuild
          does not ask: it is done whole or not at all.
    """

    on_start: Callable[[int], None] = lambda total: None
    on_batch: ingest.Progress = lambda count: None
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class IndexReport:
    """What one run did.

    images       in the collection now; captions: those of images, embedded
    encoded      images with new content
    unchanged    images as they were, those with a new time only included
    dropped      documents whose files are gone
    skipped      (path, reason), those of earlier runs included
    moved        images found under another path: they kept their vectors
    reused       images with the content of others: they got copies of their vectors
    texts        new texts of captions that were embedded
    interrupted  the run was stopped; what it committed is kept
    passed_over  videos that were not looked into
    """

    collection: Path
    encoder: str
    images: int
    encoded: int
    unchanged: int
    dropped: int
    skipped: list[tuple[str, str]]
    moved: int = 0
    reused: int = 0
    captions: int = 0
    texts: int = 0
    interrupted: bool = False
    passed_over: int = 0


def index_sources(
    sources: Sequence[Source],
    path: Path,
    options: Options = Options(),
    *,
    tables: TableOptions = TableOptions(),
    rebuild: bool = False,
    watcher: Watcher = Watcher(),
    encoder: EncoderOnDemand | None = None,
) -> IndexReport:
    """Make a collection of the sources' images at `path`, or bring an existing one up to date.

    Only new content is encoded; documents that are gone from the given folders and archives are
    dropped. An interrupted run leaves what it committed, and the next one goes on from there.
    A new collection that would hold no image at all is not left behind.

    sources  what `retrieval.corpus.scanning.scan` takes: folders, images, archives, tables, URIs, lists
    rebuild  start anew; the old collection is replaced at the end, and kept on failure
    encoder  keeps what this run loads, for a next run

    Raises CorpusError, CaptionsError, MissingPackageError, EncoderError, CollectionError.
    """
    put_back(path)
    new = is_vacant(path)
    if not new:
        old = require_collection(path, rebuild)
        if rebuild and old and options.captions is None:
            options = replace(options, captions=old.captions is not None)
        if rebuild and old:
            options = replace(options, index=options.index.else_as(old.index.wanted))
        if rebuild and old and options.fuse is None:
            options = replace(options, fuse=old.fuse)
    found = sample(scan(sources, tables), options.frames, options.video_every)
    if not found.images:
        unchanged = "" if new else f" Nothing was changed in {path}."
        raise CorpusError(_nothing_found(sources, found) + unchanged)
    require_writable(path)
    encoder = encoder or EncoderOnDemand()
    if new:
        return _make(path, sources, found, options, watcher, encoder)
    if not rebuild:
        return _update(path, found, options, watcher, encoder)
    target = beside(path, "rebuild")
    require_only_ours(path)
    with storage_errors(path), only_writer(path):
        shutil.rmtree(target, ignore_errors=True)
        try:
            to_the_end = replace(watcher, stop=lambda: False)
            report = _make(target, sources, found, options, to_the_end, encoder)
            if old and old.encoder == Manifest.load(target).encoder:
                carry_over(path, target)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        swap(target, path)
    return replace(report, collection=path)


def _make(
    path: Path, sources: Sequence[Source], found: Scan, options: Options, watcher: Watcher,
    encoder: EncoderOnDemand,
) -> IndexReport:
    """A new collection at `path`; none if it would stay empty."""
    encoder.loaded = encoder.loaded or load_encoder(options.model or AUTO, **options.encoder_settings)
    was_there = path.exists()
    with storage_errors(path):
        create(path, encoder.loaded)
    try:
        report = _update(path, found, options, watcher, encoder)
        if not report.images and not report.interrupted:
            raise CorpusError(_nothing_readable(sources, report.skipped))
    except BusyError:
        raise  # what another run is writing is not ours to clear away
    except BaseException:
        _clear_if_empty(path, was_there)
        raise
    if not report.images:
        _clear_if_empty(path, was_there)
    return report


def _clear_if_empty(path: Path, was_there: bool) -> None:
    if is_empty(path):
        shutil.rmtree(path, ignore_errors=True)
        if was_there:
            path.mkdir()


def _update(
    path: Path, found: Scan, options: Options, watcher: Watcher, encoder: EncoderOnDemand
) -> IndexReport:
    with opened_to_write(path) as (manifest, catalog):
        bad = [file for file, _ in catalog.failed()]
        again = bad if options.retry_failed else []
        plan = ingest.plan(found, catalog.known_files(), again, catalog.captions.by_path())
        _choose_encoder(encoder, path, manifest, options)
        manifest = _settle_captions(path, manifest, catalog, options)
        asked = options.index.put_to(manifest)
        collection = StoredCollection(path, asked, catalog)
        if options.index.chooses:
            at_most = catalog.count("indexed") + len(plan.to_read)
            collection.indexed().check_fits(asked.index.wanted, at_most)
        rethink = options.index.retune or asked != manifest
        if asked != manifest:
            manifest = asked
            manifest.save(path)
        if plan.to_caption:
            ingest.change_captions(plan.to_caption, catalog)
        remove_leftovers(path, collection.vectors.folder)
        if plan.to_read:
            watcher.on_start(len(plan.to_read))
        how = {"batch_size": options.batch_size, "progress": watcher.on_batch, "stop": watcher.stop}
        outcome = ingest.encode_files(
            plan.to_read, encoder, catalog, collection.vectors,
            gone=plan.gone, retry_failed=options.retry_failed, **how,
        )
        stopped, encoded_texts = outcome.stopped, 0
        if manifest.captions and not stopped:
            texts = catalog.captions.without_vectors()
            if texts:
                watcher.on_start(len(plan.to_read) + len(texts))
            encoded_texts = ingest.encode_captions(texts, encoder, catalog, collection.vectors, **how)
            stopped = encoded_texts < len(texts)
        if not stopped:
            collection.refresh_index(lambda texts: encoder().encode_texts(texts), retune=rethink)
        read = {file.state.path for file in plan.to_read}
        known_bad = (set(bad) - read) & {file.state.path for file in found.images}
        return IndexReport(
            path, manifest.encoder.name,
            images=len(collection),
            encoded=outcome.encoded,
            unchanged=plan.unchanged - len(known_bad) + outcome.same,
            dropped=outcome.dropped,
            skipped=sorted([*found.unreadable, *catalog.failed()]),
            moved=outcome.moved,
            reused=outcome.reused,
            captions=catalog.captions.counts()[1],
            texts=encoded_texts,
            interrupted=stopped,
            passed_over=len(found.videos),
        )


def _settle_captions(path: Path, manifest: Manifest, catalog: Catalog, options: Options) -> Manifest:
    """Put it on record whether captions are embedded; vectors that are no longer wanted go."""
    fuse = manifest.fuse if options.fuse is None else dict(options.fuse) or None
    wanted = bool(manifest.captions or fuse) if options.captions is None else options.captions
    if fuse and not wanted:
        raise CollectionError(
            f"{path} is searched by images fused with their captions, so captions have to stay embedded. "
            "To search images alone: --fuse image=1"
        )
    if fuse != manifest.fuse:  # an index of other vectors is out of date
        manifest = replace(manifest, fuse=fuse, index=IndexRecord(manifest.index.spec, choice=manifest.index.choice))
        manifest.save(path)
    if wanted != bool(manifest.captions):
        manifest = replace(manifest, captions=IndexRecord() if wanted else None)
        manifest.save(path)
    if not wanted and catalog.captions.counts()[1]:  # now, or left by a run that was killed here
        catalog.forget_texts()
    return manifest


def _choose_encoder(
    encoder: EncoderOnDemand, path: Path, manifest: Manifest, options: Options
) -> None:
    """The one on record, when it is needed; another that was asked for is refused at once."""
    settings = options.encoder_settings
    encoder.load = lambda: load_recorded_encoder(manifest.encoder, str(path), **settings)
    if encoder.loaded is None and options.model not in (None, AUTO, manifest.encoder.name):
        encoder.loaded = load_encoder(options.model, **settings)
    if encoder.loaded is not None:
        check_same_encoder(manifest.encoder, encoder.loaded, str(path))


def _nothing_found(sources: Sequence[Source], found: Scan) -> str:
    videos = f" {told_passed_over(len(found.videos))}" if found.videos else ""
    if not found.unreadable:
        return f"No images in {_names(sources)} (looked for files named .jpg, .png, .webp and the like).{videos}"
    path, reason = found.unreadable[0]
    more = f" The first of {len(found.unreadable)}:" if len(found.unreadable) > 1 else ""
    return f"No images in {_names(sources)} that can be read.{more} {path}: {reason}.{videos}"


def _nothing_readable(sources: Sequence[Source], skipped: Sequence[tuple[str, str]]) -> str:
    path, reason = skipped[0]
    return (
        f"None of the {len(skipped)} image files in {_names(sources)} could be read, so no collection was "
        f"made. The first: {path}: {reason}."
    )


def _names(sources: Sequence[Source]) -> str:
    return ", ".join(str(one) if isinstance(one, str | Path) else "the list" for one in sources)
