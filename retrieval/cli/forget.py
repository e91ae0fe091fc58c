"""`retrieval forget`"""

from __future__ import annotations

import click

from retrieval.cli import options


@click.command("forget", epilog=options.examples(
    "retrieval forget Photos.collection ~/Photos/2007",
    "retrieval forget everything.collection /mnt/old-disk ~/Photos/blurred.jpg",
    "retrieval forget shards.collection shards/007.tar s3://photos/2007",
))
@click.argument("collection", type=options.PATH)
@click.argument("places", nargs=-1, required=True, type=options.PLACE, metavar="PATH...")
@options.as_json
def command(collection, places, as_json) -> None:
    """Drop images from COLLECTION: those at, below and in each PATH. No image file is touched.

    A PATH is a folder, an image, an archive, a member of one as search shows it, or a URI.

    For folders that are gone, or no longer to be searched: `retrieval index` drops only what is
    missing from the folders that it is given, and nothing when a folder is empty, as it may be a
    disk that is not mounted. What is below a folder that is indexed again comes back.
    """
    from retrieval.cli import output as out
    from retrieval.compact import forget

    dropped = forget(collection, places)
    if as_json:
        out.print_json({"collection": str(collection), "dropped": dropped})
        return
    out.print_facts({"dropped": dropped}, title=str(collection))
