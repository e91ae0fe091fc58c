"""`retrieval compress`"""

from __future__ import annotations

import shlex

import click

from retrieval.cli import options


@click.command("compress", epilog=options.examples(
    "retrieval compress plants-model -o plants-small",
    "retrieval compress plants-model -o plants-small --images ~/plants --captions plants.csv",
    "retrieval compress ViT-B-32 -o vit-small --images shards/000.tar",
))
@click.argument("model")
@click.option("--output", "-o", type=options.PATH, required=True, metavar="FOLDER", help="Folder for the small model.")
@click.option("--images", type=options.PLACE, metavar="SOURCE",
              help="Captioned images to measure the loss on, as `retrieval train` takes them; 1,000 at most.")
@options.optional_captions
@options.split
@options.device
@options.as_json
def command(model, output, images, captions, split, device, as_json) -> None:
    """Write MODEL, named as for `retrieval index`, with weights in int8: a quarter of its size.

    With --images it also says what that costs: cosines of their vectors, and R@k before and after. The
    small model runs in float32 as any other, and is another encoder: collections of MODEL stay with MODEL.
    """
    from dataclasses import asdict

    from retrieval.cli import output as out
    from retrieval.train.compress import MOST_PHOTOS, compress
    from retrieval.train.pairs import read_pairs

    if not images and (captions or split):
        raise click.UsageError("--captions and --split are of --images; give these too.")
    pairs = read_pairs(images, captions, split=split) if images else None
    with out.progress_bar("Measuring") as (set_total, advance):
        set_total(min(MOST_PHOTOS, len(pairs.photos)) if pairs else 0)
        done = compress(model, output, pairs, device=device, on_photo=advance)
    if as_json:
        out.print_json({"model": str(output), **asdict(done)})
        return
    facts = {"weights": f"{out.in_bytes(done.bytes_before)} -> {out.in_bytes(done.bytes_after)}"}
    if done.loss:
        facts |= {"photos": done.photos, "mean cosine to MODEL": done.loss.mean_cosine, "least": done.loss.min_cosine}
        for direction, values in done.loss.recall.items():
            facts[direction.replace("_", " ")] = ", ".join(
                f"{at} {before:.1f} -> {after:.1f}" for at, (before, after) in values.items())
    out.print_facts(facts, title=str(output))
    if not done.loss:
        click.echo("What it costs was not measured: give --images SOURCE, and --captions FILE.", err=True)
    click.echo(f"Use it: retrieval index SOURCE --model {shlex.quote(str(output))}")
