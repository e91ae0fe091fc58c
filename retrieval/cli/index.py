"""`retrieval index`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval.cli import options

if TYPE_CHECKING:
    from retrieval.retune import AskedIndex


@click.command("index", epilog=options.examples(
    "retrieval index ~/Photos",
    "retrieval index ~/Photos /mnt/scans -o everything.collection",
    "retrieval index ~/Photos --model ViT-B-32-SigLIP2-256",
    "retrieval index ~/Clips --video-every 10 --frames 3",
    "retrieval index 'shards/{000..099}.tar' photos.zip -o shards.collection",
    "retrieval index products.csv --images ~/products",
    "retrieval index s3://bucket/photos",
    "find ~/Photos -name '*.jpg' -print0 | retrieval index - -o photos.collection",
    "retrieval index ~/Photos                  # again: only what is new or changed",
    "retrieval index ~/Photos --with-captions  # captions that the source gives can then be found too",
    "retrieval index products.csv --fuse image=0.7,caption=0.3",
    "retrieval index ~/Photos --index IVF1024,PQ64x4fs --target-recall 0.98",
    "retrieval index -o Photos.collection --retune    # reads no image",
))
@click.argument("sources", nargs=-1, type=options.PLACE, metavar="SOURCE...")
@click.option("--output", "-o", type=options.PATH, metavar="COLLECTION",
              help="Where to keep the index.  [default: SOURCE's name + .collection, here]")
@options.images_of_tables
@options.image_column
@options.caption_column
@options.model
@click.option("--rebuild", is_flag=True, help="Start anew, replacing the collection at the end.")
@options.retry_failed
@options.with_captions
@click.option("--fuse", metavar="WEIGHTS",
              help="Search images fused with their captions: image=0.7,caption=0.3. Embeds captions; later "
              "runs go on so, until image=1.")
@options.frames
@options.video_every
@options.device
@options.precision
@options.batch_size
@options.exact_preprocess
@options.compile_tower
@options.index_factory
@options.index_memory
@options.target_recall
@options.retune
@options.as_json
def command(
    sources, output, images, image_column, caption_column, model, rebuild, retry_failed, captions, fuse,
    frames, video_every, device, precision, batch_size, exact_preprocess, compiled, factory, memory, target_recall,
    retune, as_json,
) -> None:
    """Make images searchable, or bring a collection up to date.

    \b
    A SOURCE is one of
      a folder, image or video  subfolders too; hidden files and folders are passed over
      an archive                .tar or .zip, read where it is; several as '{000..099}.tar'
      a table                   .csv .tsv .jsonl .json .parquet, columns of images and captions
      a URI                     s3://bucket/folder, gs://..., https://host/a.jpg
      -                         paths and URIs on stdin, one a line or between NUL bytes

    Captions are kept: of tables, and of .txt or .json files beside images. Only content that is
    new is encoded: moved, renamed, touched and copied files are recognised. Unreadable files are
    named, skipped, and tried again when they change, which size and time tell: of members the
    archive's time, in storage the listing's. Links count as unchanged, and one that fails waits
    for --retry-failed. What is gone from a folder, an archive or a bucket is dropped; lists and
    tables drop nothing. Frames of videos and animations are images of their own with
    --video-every and --frames, which later runs have to say too.

    Many images get an approximate index, tuned with texts to a recall that is then on record: see
    `retrieval info`. With -o and no SOURCE, only the index is changed as its options say.

    Interrupt it at any time: the next run goes on from there. The first Ctrl-C commits the batch
    in hand, a second one ends at once.
    """
    from contextlib import nullcontext

    from retrieval.cli import output as out
    from retrieval.cli.interrupts import Interrupts
    from retrieval.fused import parse_weights
    from retrieval.corpus.moving import told_passed_over
    from retrieval.maintain import Options, Watcher, index_sources
    from retrieval.retune import AskedIndex

    asked_index = AskedIndex(factory, memory, target_recall, retune)
    if not sources:
        _change_index(output, asked_index, device, precision, as_json)
        return
    path = output or default_collection(sources)
    weights = None if fuse is None else parse_weights(fuse) or {}
    tables = options.table_options(sources, images, image_column, caption_column)
    # A rebuild leaves nothing half-done to be kept.
    interrupts = nullcontext() if rebuild else Interrupts(
        "Finishing the batch in hand; press Ctrl-C again to end at once."
    )
    try:
        with out.progress_bar("Encoding") as (set_total, advance), interrupts as asked:
            report = index_sources(
                [sys.stdin.buffer if source == "-" else source for source in sources], path,
                Options(
                    model, device, precision, batch_size, exact_preprocess, retry_failed,
                    captions, frames, video_every, weights, asked_index, compiled,
                ),
                tables=tables,
                rebuild=rebuild,
                watcher=Watcher(set_total, advance, asked.is_set if asked else lambda: False),
            )
    except KeyboardInterrupt:
        again = "start over" if rebuild else "go on from what was committed"
        click.echo(f"Interrupted. Run the same command again to {again}.", err=True)
        sys.exit(130)
    if report.interrupted:
        held = f"{report.collection} holds {report.images} images now. " if report.images else ""
        click.echo(
            f"Interrupted. {held}Run the same command again to go on from what was committed.",
            err=True,
        )
        sys.exit(130)
    if report.passed_over:
        click.echo(told_passed_over(report.passed_over), err=True)
    if as_json:
        out.print_json({
            "collection": str(report.collection), "encoder": report.encoder,
            "images": report.images, "encoded": report.encoded, "unchanged": report.unchanged,
            "moved": report.moved, "reused": report.reused, "dropped": report.dropped,
            "captions": report.captions, "captions_encoded": report.texts,
            "skipped": [{"path": name, "reason": reason} for name, reason in report.skipped],
        })
        return
    out.warn_skipped(report.skipped)
    captions = {"captions": report.captions, "newly embedded": report.texts}
    out.print_facts({
        "images": report.images, "newly encoded": report.encoded,
        "unchanged": report.unchanged, "moved": report.moved, "reused": report.reused,
        "dropped": report.dropped, **(captions if report.captions or report.texts else {}),
        "unreadable": len(report.skipped), "encoder": report.encoder,
    }, title=str(report.collection))
    click.echo(f'Search it: retrieval search {out.shell_quoted(report.collection)} "what you look for"')


def _change_index(collection: Path | None, asked: AskedIndex, device: str, precision: str, as_json: bool) -> None:
    """With nothing to read."""
    from retrieval.cli import output as out
    from retrieval.cli.index_facts import index_facts, index_table
    from retrieval.collection import Collection
    from retrieval.retune import AskedIndex, retune

    if collection is None or asked == AskedIndex():
        raise click.UsageError(
            "Missing argument 'SOURCE...'. Without one, -o COLLECTION with --retune, --index, --memory or "
            "--target-recall changes the index alone."
        )
    retune(collection, asked, device=device, precision=precision)
    with Collection.open(collection) as opened:
        facts = index_facts(opened.indexed(), opened.manifest.index)
    if as_json:
        out.print_json({"collection": str(collection), **facts})
    else:
        out.print_facts(index_table(facts), title=str(collection))


def default_collection(sources: Sequence[str]) -> Path:
    """`NAME.collection` in the current folder: of several archives or the like, the name of their folder."""
    from retrieval.corpus.scanning import source_name

    name = source_name(sources)
    if name is None:
        raise click.UsageError("Say where to keep the index: -o COLLECTION. A list on stdin has no name.")
    return Path(f"{name}.collection")
