"""`retrieval benchmark`"""

from __future__ import annotations

import click

from retrieval.cli import options


@click.command("benchmark", epilog=options.examples(
    "retrieval benchmark Photos.collection --captions captions.csv",
    "retrieval benchmark coco.collection --captions captions_val2017.json --json",
    "retrieval benchmark flickr8k.collection --captions captions.tsv --split test",
))
@click.argument("collection", type=options.PATH)
@options.captions
@options.split
@options.device
@options.precision
@options.as_json
def command(collection, captions, split, device, precision, as_json) -> None:
    """Measure recall@k of COLLECTION with captions, text to image and image to text.

    R@k is the percentage of queries with a right answer among the first k results. A caption is
    right for its own image; an image's query counts as a hit if any of its captions is found.
    All images of the collection compete, captioned or not. Captions name images by file name,
    or by as much of the path as makes it unique.
    """
    from retrieval.cli import output as out
    from retrieval.collection import Collection
    from retrieval.evaluate import K, evaluate

    with Collection.open(collection, device=device, precision=precision) as opened:
        encoder = opened.load_encoder()
        with out.progress_bar("Captions") as (set_total, advance):
            done_before = 0

            def progress(done: int, total: int) -> None:
                nonlocal done_before
                set_total(total)
                advance(done - done_before)
                done_before = done

            result = evaluate(opened, captions, split=split, encoder=encoder, progress=progress)
    if as_json:
        out.print_json(result.to_json())
        return
    columns = ("direction", *(f"R@{k}" for k in K), "median rank", "MRR", "queries")
    out.print_rows(columns, [
        (name, *(f"{100 * scores.hit_rates[k]:.1f}" for k in K),
         f"{scores.median_rank:g}", f"{scores.mrr:.3f}", scores.queries)
        for name, scores in (("text to image", result.text_to_image),
                             ("image to text", result.image_to_text))
    ])
    click.echo(
        f"{result.images} images, {result.captions} captions, {len(result.missing)} missing files, "
        f"{result.uncaptioned} images without a caption; encoder {result.encoder}", err=True,
    )
    _name("Captioned, but not in the collection", result.missing)
    _name("Names that fit several images equally well, left out", result.ambiguous)


def _name(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        click.echo(f"{what}: {', '.join(names[:5])}{more}", err=True)
