"""`retrieval caption`"""

from __future__ import annotations

import click

from retrieval.cli import options
from retrieval.cli import output as out


@click.command("caption", epilog=options.examples(
    "retrieval caption Photos.collection ./sofa.jpg",
    "retrieval caption Photos.collection 2019/beach/IMG_1.jpg ./sofa.jpg -k 3 --json",
    "retrieval caption Photos.collection ./sofa.jpg --write  # by a CoCa model",
))
@click.argument("collection", type=options.PATH)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-k", type=click.IntRange(min=1), metavar="N",
              help="Captions of the collection for each image.  [default: 5, or all if there are fewer]")
@click.option("--write/--no-write", default=None,
              help="Only have the encoder write one, or never.  [default: one where the encoder is a CoCa model, "
              "and captions of the collection]")
@options.device
@options.precision
@options.as_json
def command(collection, images, k, write, device, precision, as_json) -> None:
    """Find words for each IMAGE: the captions of COLLECTION that fit it best.

    IMAGE is a file, or an image of COLLECTION by its id or path. Captions are those that the sources
    gave, found by their own vectors if these were embedded by `retrieval index --with-captions`, else
    by way of similar images. Where the encoder is a CoCa model it also writes one of its own.
    """
    from retrieval.captioning import SIMILAR, caption_images
    from retrieval.collection import Collection
    from retrieval.corpus.addresses import in_words
    from retrieval.named_image import find_image

    with Collection.open(collection, device=device, precision=precision) as opened:
        named = [find_image(opened, image) for image in images]
        found = caption_images(opened, named, k, write=write)
    if any(one.origin == SIMILAR for one in found):
        click.echo(
            "These are captions of similar images, as captions have no vectors of their own here. To compare captions "
            f"themselves: retrieval index SOURCE --with-captions -o {out.shell_quoted(collection)}", err=True,
        )
    if as_json:
        for one in found:
            out.print_json(one.to_json())
        return
    out.print_rows(
        ("image", "rank", "score", "caption", "origin", "path"),
        [(one.image, one.rank, one.score, one.caption, one.origin, in_words(one.path or "")) for one in found],
    )
