"""`retrieval watch`"""

from __future__ import annotations

import signal
import sys

import click

from retrieval.cli import options
from retrieval.cli.index import default_collection


@click.command("watch", epilog=options.examples(
    "retrieval watch ~/Photos",
    "retrieval watch ~/Photos /mnt/scans -o everything.collection",
    "retrieval watch ~/inbox photos.tar -o inbox.collection --with-captions",
))
@click.argument("sources", nargs=-1, required=True, type=options.PLACE, metavar="SOURCE...")
@click.option("--output", "-o", type=options.PATH, metavar="COLLECTION",
              help="The collection to keep.  [default: SOURCE's name + .collection, here]")
@options.images_of_tables
@options.image_column
@options.caption_column
@options.model
@options.retry_failed
@options.with_captions
@options.frames
@options.video_every
@options.device
@options.precision
@options.batch_size
@options.exact_preprocess
def command(
    sources, output, images, image_column, caption_column, model, retry_failed, captions, frames, video_every,
    device, precision, batch_size, exact_preprocess,
) -> None:
    """Keep a collection of SOURCEs up to date while files come and go.

    A SOURCE is a folder, an archive or a table, as for `retrieval index`; what lies on other
    machines cannot be watched.

    An ordinary `retrieval index` first, then one after each burst of changes, told in a line on
    stderr. The encoder stays loaded. An update that fails is told and tried again; --retry-failed
    is for the first. Ctrl-C ends it, with status 0, once the batch in hand is committed; a second
    one at once, with 130.
    """
    from retrieval.cli.interrupts import Interrupts
    from retrieval.maintain import Options
    from retrieval.watch import watch

    tables = options.table_options(sources, images, image_column, caption_column)

    def tell(report) -> None:
        counts = {
            "encoded": report.encoded, "moved": report.moved, "reused": report.reused,
            "dropped": report.dropped, "captions embedded": report.texts, "unreadable": len(report.skipped),
        }
        changes = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        click.echo(f"{report.collection}: {report.images} images; {changes or 'no change'}", err=True)

    try:
        with Interrupts("Ending.", signal.SIGINT, signal.SIGTERM) as asked:
            watch(
                sources, output or default_collection(sources),
                Options(
                    model, device, precision, batch_size, exact_preprocess, retry_failed,
                    captions, frames, video_every,
                ),
                tables=tables,
                stop=asked, on_update=tell,
                on_error=lambda reason: click.echo(f"Not updated: {reason}", err=True),
            )
    except KeyboardInterrupt:
        click.echo("Interrupted. What was committed is kept.", err=True)
        sys.exit(130)
