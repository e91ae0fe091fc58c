"""`retrieval train`"""

from __future__ import annotations

import shlex

import click

from retrieval.cli import options


@click.command("train", epilog=options.examples(
    "retrieval train ~/products --captions products.csv -o products-model",
    "retrieval train train.tar --captions captions.tsv --split train -o model --held-out 500",
    "retrieval index ~/products --model products-model",
    "retrieval train ~/products --captions products.csv --task match -o products-match",
    'retrieval search products.collection "a blue cup" --rerank products-match',
))
@click.argument("images", type=options.PATH)
@options.captions
@options.split
@click.option("--output", "-o", type=options.PATH, required=True, metavar="FOLDER",
              help="Where to write the model, an open_clip folder for --model.")
@click.option("--task", type=click.Choice(["embed", "match"]), default="embed", show_default=True,
              help="embed: an encoder. match: a cross-encoder on the built-in encoder's towers, for `search --rerank`.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), metavar="M",
              help="With --task match: stop training after M minutes, tower tokens aside.")
@click.option("--held-out", type=click.IntRange(min=0), metavar="N",
              help="Photos kept apart to measure recall on.  [default: a tenth, at most 1000]")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the photos.")
@click.option("--train-batch-size", "train_batch_size", type=click.IntRange(min=2),
              help="Pairs that compete with each other in a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True),
              help="Highest step size, after warming up.")
@click.option("--prototype-share", type=click.FloatRange(0, 1),
              help="Pairs per real pair made from what the image tower's classifier knows; more keeps "
              "more general vocabulary, 0 learns from your captions alone.")
@click.option("--dim", type=click.IntRange(min=2), help="Dimensions of the shared space.")
@click.option("--views", type=click.IntRange(min=1), default=8, show_default=True,
              help="Augmented copies of each photo.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="The same seed gives the same model.")
@click.option("--projections-only", is_flag=True,
              help="Write the trained tensors without the towers, as the built-in encoder ships.")
@options.device
@options.as_json
def command(images, captions, split, output, task, minutes, held_out, epochs, train_batch_size, learning_rate,
            prototype_share, dim, views, seed, projections_only, device, as_json) -> None:
    """Train an encoder on IMAGES (a folder, or a .tar) and their captions.

    Both towers stay as they are (EfficientNet-Lite0 and all-MiniLM-L6-v2); two projections into
    one space are trained contrastively. Tower outputs are kept in the cache folder, so training
    again with other settings takes a minute or two.

    With --task match it is a small transformer that reads a text and an image together. It is trained
    to tell a caption's image from those that the built-in encoder confuses with it.
    """
    from retrieval.cli import output as out
    from retrieval.train.loop import Settings
    from retrieval.train.pairs import read_pairs
    from retrieval.train.projections import Watcher, train_projections

    given = {"epochs": epochs, "batch_size": train_batch_size, "learning_rate": learning_rate,
             "prototype_share": prototype_share, "dim": dim, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    if task == "match":
        _check_match(given, held_out, projections_only)
        _train_match(images, captions, split, output, minutes, given, device, as_json)
        return
    if minutes is not None:
        raise click.UsageError("--minutes is for --task match.")
    settings = Settings(**given)
    pairs = read_pairs(images, captions, split=split)
    if pairs.missing:
        click.echo(f"Warning: {pairs.missing} captioned images are not in {images}.", err=True)
    apart = min(1000, len(pairs.photos) // 10) if held_out is None else held_out
    with out.progress_bar("Tower outputs") as (set_total, advance):
        set_total(len(pairs.photos) * views)
        outcome = train_projections(
            pairs, output, settings, views=views, held_out=apart,
            projections_only=projections_only, device=device,
            watcher=Watcher(on_photos=lambda view, count: advance(count), on_epoch=_report),
        )
    if as_json:
        from dataclasses import asdict

        out.print_json({"model": str(output), **asdict(outcome)})
        return
    out.print_facts({
        "photos": outcome.photos, "captions": outcome.captions, "loss": outcome.final.loss,
        "temperature": outcome.final.temperature,
        **{f"held-out {direction.replace('_', ' ')}":
           ", ".join(f"{name} {value}" for name, value in scores.items())
           for direction, scores in outcome.validation.items()},
    }, title=str(output))
    if not projections_only:
        click.echo(f"Use it: retrieval index SOURCE --model {shlex.quote(str(output))}")


_OF_MATCH = {"epochs", "batch_size", "learning_rate", "seed"}


def _check_match(given, held_out, projections_only) -> None:
    unfit = sorted(set(given) - _OF_MATCH) + ["held_out"] * (held_out is not None)
    if unfit or projections_only:
        name = (unfit or ["projections_only"])[0].replace("_", "-")
        raise click.UsageError(f"--{name} means nothing to --task match.")


def _train_match(images, captions, split, output, minutes, given, device, as_json) -> None:
    import logging
    from dataclasses import asdict

    from retrieval.cli import output as out
    from retrieval.encoders import load_encoder
    from retrieval.train.cross_encoder import train_cross_encoder
    from retrieval.train.match import MatchSettings
    from retrieval.train.pairs import read_pairs

    pairs = read_pairs(images, captions, split=split)
    with out.progress_bar("Tower tokens") as (set_total, advance):
        set_total(len(pairs.photos))
        outcome = train_cross_encoder(
            pairs, output, MatchSettings(minutes=minutes, **given), load_encoder("builtin", device=device),
            on_photos=advance,
            on_progress=lambda one: logging.getLogger("retrieval").info(
                "step %d of %d: loss %.3f, right %.3f", one.step, one.steps, one.loss, one.right),
        )
    if as_json:
        out.print_json({"model": str(output), **asdict(outcome)})
        return
    out.print_facts(asdict(outcome), title=str(output))
    click.echo(f"Use it: retrieval search COLLECTION QUERY --rerank {shlex.quote(str(output))}")


def _report(epoch) -> None:
    import logging

    if epoch.number % 10 == 0 or epoch.number == 1:
        logging.getLogger("retrieval").info(
            "epoch %d: loss %.3f, temperature %.4f", epoch.number, epoch.loss, epoch.temperature
        )
