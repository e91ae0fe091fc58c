"""`retrieval demo`"""

from __future__ import annotations

from pathlib import Path

import click

from retrieval.cli import options


@click.command("demo", epilog=options.examples("retrieval demo", "retrieval demo -o /tmp/demo"))
@click.option("--output", "-o", type=options.PATH, default=Path("retrieval-demo"), show_default=True,
              metavar="FOLDER", help="Where the collection and the contact sheet go.")
@options.model
@options.device
@options.precision
def command(output, model, device, precision) -> None:
    """Try everything on sample photos: index, search, measure recall, look at a contact sheet."""
    from retrieval.cli import output as out
    from retrieval.demo import run
    from retrieval.encoders import BUILTIN
    from retrieval.maintain import Options, Watcher

    with out.progress_bar("Encoding") as (set_total, advance):
        result = run(output, Options(model, device, precision), Watcher(set_total, advance))
    report = result.report
    click.echo(f"1. Indexed {report.images} sample photos with {report.encoder} into {report.collection}\n")
    click.echo("2. Searched them:")
    for query, hits in result.hits.items():
        best = "   ".join(f"{hit.rank}. {hit.id} ({hit.score:.2f})" for hit in hits[:3])
        click.echo(f"   {query:<36} {best}")
    click.echo(f"\n3. Contact sheet, to open in a browser: {result.contact_sheet.absolute()}\n")
    click.echo(f"4. Recall on {len(result.recall.task.captions)} captions written for these photos, in percent:")
    for name, scores in (("text to image", result.recall.text_to_image),
                         ("image to text", result.recall.image_to_text)):
        rates = "   ".join(f"R@{k} {100 * rate:5.1f}" for k, rate in scores.hit_rates.items())
        click.echo(f"   {name}   {rates}   median rank {scores.estimates['median_rank'].value:g}")
    if report.encoder == BUILTIN:
        click.echo("   (The built-in encoder is small and misses things. With a network, --model auto")
        click.echo("   downloads a far better one.)")
    click.echo(
        "\n"
        "Now your own photos:\n"
        "   retrieval index ~/Pictures\n"
        '   retrieval search Pictures.collection "a dog on the beach"\n'
        f"Or ask these again:\n   retrieval search {out.shell_quoted(report.collection)} "
        '"something round"'
    )
