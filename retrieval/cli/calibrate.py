"""`retrieval calibrate`"""

from __future__ import annotations

import click

from retrieval.cli import options


@click.command("calibrate", epilog=options.examples(
    "retrieval calibrate Photos.collection --captions captions.csv",
    "retrieval calibrate Photos.collection --captions captions.tsv --split train --json",
    "retrieval calibrate Photos.collection --off",
))
@click.argument("collection", type=options.PATH)
@options.optional_captions
@options.split
@click.option("--off", is_flag=True, help="Order by score alone from now on, whatever the encoder comes with.")
@click.option("--references", type=click.IntRange(min=64), default=10_000, show_default=True, metavar="N",
              help="Captions to keep as references, at most.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
              help="Of the draws: which are references, which are held out.")
@options.device
@options.precision
@options.as_json
def command(collection, captions, split, off, references, seed, device, precision, as_json) -> None:
    """Calibrate searches for words in COLLECTION with captions.

    Some images are close to every text, and come up for queries that others answer better. How
    close an image is to reference captions is taken from its score (Nearest Neighbor
    Normalization). Captions may be of any images, and should read like what people ask. If they
    name at least 100 images of COLLECTION, how strongly to calibrate is chosen on held-out ones,
    and the gain is measured on others; where none is sure, nothing is calibrated.

    Searches by image are never calibrated, and scores shown stay cosines. The built-in encoder
    comes with references, so its collections are calibrated from the start. Captions that are
    references cannot be used by `retrieval benchmark`: give it others.
    """
    from retrieval.calibrating import calibrate, switch_off
    from retrieval.cli import output as out
    from retrieval.corpus.captions import read_captions

    if off == (captions is not None):
        raise click.UsageError("Say what to calibrate with: --captions FILE; or --off.")
    if off:
        switch_off(collection)
        if as_json:
            out.print_json({"collection": str(collection), "weight": 0})
        return
    read = read_captions(captions, split=split)
    with out.progress_bars() as progress:
        report = calibrate(
            collection, read, most=references, seed=seed, device=device, precision=precision,
            progress=lambda done, total: progress("Captions", done, total),
        )
    if as_json:
        out.print_json({"collection": str(collection), **report.to_json()})
        return
    out.print_facts({
        "references": report.references, "nearest": report.k,
        "weight": report.weight or "0: calibration does not surely lift recall here, and is off",
    }, title=str(collection))
    if report.before is None:
        click.echo("Not measured: the captions are of too few images in the collection.", err=True)
        return
    out.print_rows(
        ("text to image", "before", "after", "gained, 95 % interval"),
        [(f"R@{k}", f"{100 * report.before[k].value:.1f}", f"{100 * report.after[k].value:.1f}",
          f"{100 * one.value:+.1f}  {100 * one.low:+.1f} to {100 * one.high:+.1f}")
         for k, one in report.gained.items()],
        title=f"{report.captions} captions of held-out images, among {report.images}",
    )
