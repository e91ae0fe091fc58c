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
    "retrieval index ~/Photos                  # again: only what is new or changed",
))
@click.argument("folders", nargs=-1, required=True, type=options.PATH, metavar="FOLDER...")
@click.option("--output", "-o", type=options.PATH, metavar="COLLECTION",
              help="Where to keep the index.  [default: FOLDER's name + .collection, here]")
@options.model
@click.option("--rebuild", is_flag=True, help="Start anew, replacing the collection at the end.")
@options.device
@options.precision
@options.batch_size
@options.exact_preprocess
@options.as_json
def command(folders, output, model, rebuild, device, precision, batch_size, exact_preprocess, as_json) -> None:
    """Make FOLDERs of images searchable, or bring a collection up to date.

    Images in all subfolders are found by their file names; hidden files and folders are passed
    over. Unreadable files are named and skipped. Interrupt it at any time: the next run goes on
    from there.
    """
    from retrieval.cli import output as out
    from retrieval.maintain import Options, Watcher, index_folders

    path = output or default_collection(folders[0])
    try:
        with out.progress_bar("Encoding") as (set_total, advance):
            report = index_folders(
                folders, path, Options(model, device, precision, batch_size, exact_preprocess),
                rebuild=rebuild, watcher=Watcher(set_total, advance),
            )
    except KeyboardInterrupt:
        again = "start over" if rebuild else "go on from what was committed"
        click.echo(f"Interrupted. Run the same command again to {again}.", err=True)
        sys.exit(130)
    if as_json:
        out.print_json({
            "collection": str(report.collection), "encoder": report.encoder,
            "images": report.images, "encoded": report.encoded, "unchanged": report.unchanged,
            "dropped": report.dropped,
            "skipped": [{"path": name, "reason": reason} for name, reason in report.skipped],
        })
        return
    out.warn_skipped(report.skipped)
    out.print_facts({
        "images": report.images, "newly encoded": report.encoded,
        "unchanged": report.unchanged, "dropped": report.dropped,
        "unreadable": len(report.skipped), "encoder": report.encoder,
    }, title=str(report.collection))
    click.echo(f'Search it: retrieval search {shell_quoted(report.collection)} "what you look for"')


def default_collection(folder: Path) -> Path:
    """`NAME.collection` in the current folder."""
    name = folder.absolute().resolve().name or "images"
    return Path(f"{name}.collection")


def shell_quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
