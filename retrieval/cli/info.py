"""`retrieval info`"""

from __future__ import annotations

import click

from retrieval.cli import options

WORTH_COMPACTING = 0.2  # share of dead rows from which on it is suggested


@click.command("info", epilog=options.examples(
    "retrieval info Photos.collection",
    "retrieval info Photos.collection --json",
))
@click.argument("collection", type=options.PATH)
@options.as_json
def command(collection, as_json) -> None:
    """Say what COLLECTION holds: images, captions, encoder, index, size on disk, unreadable files."""
    from retrieval.cli import output as out
    from retrieval.cli.index_facts import index_facts, index_table
    from retrieval.collection import Collection
    from retrieval.fused import in_words
    from retrieval.sketches import bytes_per_vector
    from retrieval.types import CAPTIONS

    with Collection.open(collection) as opened:
        manifest, catalog = opened.manifest, opened.catalog
        failed = catalog.failed()
        index = index_facts(opened.indexed(), manifest.index)
        of_captions = manifest.captions and index_facts(opened.indexed(CAPTIONS), manifest.captions)
        rows = catalog.vector_rows
        captions, embedded = catalog.captions.counts()
        facts = {
            "images": len(opened),
            "unreadable": len(failed),
            "captions": captions,
            "captions_embedded": embedded,
            "dead_rows": rows - len(opened) - len(catalog.captions.live_rows()),
            "encoder": manifest.encoder.name,
            "dimensions": manifest.encoder.dim,
            "fingerprint": manifest.encoder.fingerprint,
            **({"sketch_bytes_per_vector": sketch} if (sketch := bytes_per_vector(opened.vectors)) else {}),
            **({"fused": in_words(manifest.fuse)} if manifest.fuse else {}),
            "calibration": _calibration(opened.calibration),
            "bytes_on_disk": sum(f.stat().st_size for f in collection.rglob("*") if f.is_file()),
            "created_at": manifest.created_at,
            "software": manifest.software,
        }
    if as_json:
        out.print_json({"collection": str(collection), **facts, **index, "captions_index": of_captions,
                        "failed": [{"path": path, "reason": reason} for path, reason in failed]})
        return
    size, created = out.in_bytes(facts.pop("bytes_on_disk")), facts.pop("created_at")
    embedded = facts.pop("captions_embedded")
    facts["captions"] = f"{facts['captions']} ({embedded} embedded)"
    dead = facts.pop("dead_rows")
    if dead:
        facts["dead rows"] = f"{dead} of {rows} (of what went or changed)"
    facts |= index_table(index)
    if sketch := facts.pop("sketch_bytes_per_vector", 0):
        facts["sketch"] = f"{sketch:g} bytes per vector, which exact search reads first"
    if of_captions:
        facts |= index_table(of_captions, "captions")
    out.print_facts({**facts, "created": created, "on disk": size}, title=str(collection))
    if dead > WORTH_COMPACTING * rows:
        click.echo(f"Free their room: retrieval compact {out.shell_quoted(collection)}", err=True)
    out.warn_skipped(failed)


def _calibration(calibration) -> str:
    if calibration is None:
        return "none"
    return f"weight {calibration.weight:g}, nearest {calibration.k} of {len(calibration.references)} references ({calibration.source})"
