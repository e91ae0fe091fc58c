"""`retrieval export`"""

from __future__ import annotations

import click

from retrieval.cli import options


@click.command("export", epilog=options.examples(
    "retrieval export Photos.collection -o photos-embeddings",
    "retrieval export Photos.collection -o photos-embeddings --json",
))
@click.argument("collection", type=options.PATH)
@click.option("--output", "-o", type=options.PATH, required=True, metavar="FOLDER",
              help="A new or empty folder.")
@click.option("--format", "layout", type=click.Choice(["clip-retrieval"]), default="clip-retrieval",
              show_default=True, help="How the files are laid out.")
@options.as_json
def command(collection, output, layout, as_json) -> None:
    """Write COLLECTION's vectors and metadata as files that other programs read.

    FOLDER/img_emb gets float16 vectors in .npy files of up to a million rows, FOLDER/metadata a
    Parquet file for each: row i there is about row i of the vectors. `retrieval import` reads it.
    FOLDER/text_emb gets the vectors of first captions, if every image has one that is embedded.
    """
    from retrieval.cli import output as out
    from retrieval.exchange.exporting import export_collection

    with out.progress_bar("Exporting") as (set_total, advance):
        report = export_collection(collection, output, on_start=set_total, on_batch=advance)
    if report.uncaptioned:
        click.echo(
            f"No text_emb: {report.uncaptioned} of {report.images} images have no caption with a vector.", err=True,
        )
    if as_json:
        out.print_json({"folder": str(report.folder), "format": layout, "encoder": report.encoder,
                        "images": report.images, "files": report.files})
        return
    out.print_facts({"images": report.images, "files": report.files, "encoder": report.encoder},
                    title=str(report.folder))
