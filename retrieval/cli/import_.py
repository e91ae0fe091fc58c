"""`retrieval import`"""

from __future__ import annotations

from pathlib import Path

import click

from retrieval.cli import options
from retrieval.cli.output import shell_quoted


@click.command("import", epilog=options.examples(
    "retrieval import clip-embeddings -o photos.collection --model ViT-B-32-quickgelu/openai",
    "retrieval import laion -o laion.collection --model ViT-L-14-quickgelu/openai",
    "retrieval import ~/.local/share/rclip/db.sqlite3 -o photos.collection",
))
@click.argument("embeddings", type=options.PATH)
@click.option("--output", "-o", type=options.PATH, required=True, metavar="COLLECTION",
              help="The collection to make.")
@click.option("--model", "-m", metavar="NAME",
              help="The model that made the vectors, as for `retrieval index`; rclip's is known.")
@click.option("--images", type=options.PATH, default=Path(), metavar="FOLDER",
              help="Where relative image paths begin.  [default: here]")
@click.option("--force", is_flag=True, help="Also take vectors that do not look like the model's.")
@options.device
@options.precision
@options.as_json
def command(embeddings, output, model, images, force, device, precision, as_json) -> None:
    """Make a collection of EMBEDDINGS that exist already, without encoding the images anew.

    EMBEDDINGS is a folder as `clip-retrieval inference` writes and LAION publishes (img_emb_0.npy,
    metadata_0.parquet, and so on), or rclip's db.sqlite3. A few images that are on this machine are
    encoded to see that the model is the right one.
    """
    from retrieval.cli import output as out
    from retrieval.exchange.importing import import_embeddings

    with out.progress_bar("Importing") as (set_total, advance):
        report = import_embeddings(
            embeddings, output, model, images=images, device=device, precision=precision,
            force=force, on_start=set_total, on_batch=advance,
        )
    if as_json:
        out.print_json({
            "collection": str(report.collection), "source": report.source, "encoder": report.encoder,
            "images": report.images, "at_hand": report.at_hand, "renamed": report.renamed,
            "compared": report.compared, "cosine": report.cosine,
            "skipped": [{"id": name, "reason": reason} for name, reason in report.skipped],
        })
        return
    out.warn_skipped(report.skipped)
    checked = f"{report.compared} images, cosine {report.cosine:.3f}" if report.compared else "no image at hand"
    out.print_facts({
        "images": report.images, "on this machine": report.at_hand, "renamed": report.renamed,
        "without a vector": len(report.skipped), "encoder": report.encoder, "compared": checked,
    }, title=str(report.collection))
    click.echo(f'Search it: retrieval search {shell_quoted(report.collection)} "what you look for"')
