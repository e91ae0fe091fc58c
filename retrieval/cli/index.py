"""`retrieval index`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from retrieval.cli import options


@click.command("index", epilog=options.examples(
    "retrieval index ~/Photos",
    "retrieval index ~/Photos /mnt/scans -o everything.collection",
    "retrieval index ~/Photos --model ViT-B-32-SigLIP2-256",
    "retrieval index ~/Clips --video-every 10 --frames 3",
    "retrieval index ~/Photos                  # again: only what is new or changed",
    "retrieval index ~/Photos --with-captions  # captions that the source gives can then be found too",
))
@click.argument("folders", nargs=-1, required=True, type=options.PATH, metavar="FOLDER...")
@click.option("--output", "-o", type=options.PATH, metavar="COLLECTION",
              help="Where to keep the index.  [default: FOLDER's name + .collection, here]")
@options.model
@click.option("--rebuild", is_flag=True, help="Start anew, replacing the collection at the end.")
@click.option("--retry-failed", is_flag=True,
              help="Try files again that could not be read before, though they did not change.")
@click.option("--with-captions/--without-captions", "captions", default=None,
              help="Embed captions too, for `search --in captions`; without: drop their vectors.  "
              "[default: as the last run]")
@options.frames
@options.video_every
@options.device
@options.precision
@options.batch_size
@options.exact_preprocess
@options.as_json
def command(
    folders, output, model, rebuild, retry_failed, captions, frames, video_every, device, precision, batch_size,
    exact_preprocess, as_json,
) -> None:
    """Make FOLDERs of images searchable, or bring a collection up to date.

    Images in all subfolders are found by their file names; hidden files and folders are passed
    over. Only content that is new is encoded: moved, renamed, touched and copied files are
    recognised. Unreadable files are named, skipped, and tried again when they change. Frames of
    videos and animations are images of their own with --video-every and --frames.

    Interrupt it at any time: the next run goes on from there. The first Ctrl-C commits the batch
    in hand, a second one ends at once.
    """
    from contextlib import nullcontext

    from retrieval.cli import output as out
    from retrieval.cli.interrupts import Interrupts
    from retrieval.corpus.moving import told_passed_over
    from retrieval.maintain import Options, Watcher, index_folders

    path = output or default_collection(folders[0])
    # A rebuild leaves nothing half-done to be kept.
    interrupts = nullcontext() if rebuild else Interrupts(
        "Finishing the batch in hand; press Ctrl-C again to end at once."
    )
    try:
        with out.progress_bar("Encoding") as (set_total, advance), interrupts as asked:
            report = index_folders(
                folders, path,
                Options(
                    model, device, precision, batch_size, exact_preprocess, retry_failed,
                    captions, frames, video_every,
                ),
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


def default_collection(folder: Path) -> Path:
    """`NAME.collection` in the current folder."""
    name = folder.absolute().resolve().name or "images"
    return Path(f"{name}.collection")
