"""`retrieval models`"""

from __future__ import annotations

import click

from retrieval.cli import options


@click.command("models", epilog=options.examples(
    "retrieval models",
    "retrieval models siglip2",
    "retrieval index ~/Photos --model ViT-B-32/laion2b_s34b_b79k",
))
@click.argument("contains", required=False, default="")
@options.as_json
def command(contains, as_json) -> None:
    """List the models that --model takes, those whose name CONTAINS a text if one is given.

    "default" is what a bare MODEL means, and "here" that its weights are on this machine.
    """
    from retrieval.cli import output as out
    from retrieval.encoders.listing import listed

    rows = listed(contains)
    if as_json:
        for row in rows:
            out.print_json(row)
        return
    if not rows:
        click.echo(f"No model's name contains {contains!r}.", err=True)
        return
    out.print_rows(("model", "default", "here", "note"), [
        (row["name"], "yes" if row["default"] else "", "yes" if row["here"] else "", row["note"])
        for row in rows
    ])
