"""`retrieval compact`"""

from __future__ import annotations

import click

from retrieval.cli import options


@click.command("compact", epilog=options.examples(
    "retrieval compact Photos.collection",
    "retrieval info Photos.collection          # is it worth it? says how many rows are dead",
))
@click.argument("collection", type=options.PATH)
@options.as_json
def command(collection, as_json) -> None:
    """Free the room of images that went from COLLECTION or changed.

    Their vectors stay behind as dead rows until then. The live ones are written beside and
    switched to in one step, so it can be interrupted at any time, and searched meanwhile; it
    needs room for them a second time while it runs.
    """
    from retrieval.cli import output as out
    from retrieval.compact import compact

    report = compact(collection)
    if as_json:
        out.print_json({"collection": str(collection), "rows": report.rows,
                        "dropped_rows": report.dropped_rows, "freed_bytes": report.freed})
        return
    out.print_facts({
        "rows": report.rows, "dead rows dropped": report.dropped_rows,
        "freed": out.in_bytes(report.freed),
    }, title=str(collection))
