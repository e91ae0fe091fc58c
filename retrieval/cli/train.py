"""`retrieval train`"""

from __future__ import annotations

import os

import click

from retrieval.cli import options, train_options


@click.command("train", epilog=options.examples(
    "retrieval train ~/products --captions products.csv -o products-model",
    "retrieval train train.tar --captions captions.tsv --split train -o model --held-out 500",
    "retrieval train ~/plants --captions plants.csv --train-image all --train-text none -o plants-model",
    "retrieval train ~/plants --captions plants.csv --model ViT-B-32 --lora 8 -o plants-model",
    "retrieval train ~/plants --captions plants.csv --train-image 9 --train-text 2 --views 8 -o plants-model",
    "retrieval train ~/plants --captions plants.csv --image-tower vgg16 --text-tower gru -o classic",
    "torchrun --nproc-per-node 4 -m retrieval train shards-{000..099}.tar --architecture ViT-B-16 -o scratch",
    "retrieval train ~/products --captions products.csv --task match -o products-match",
    'retrieval search products.collection "a blue cup" --rerank products-match',
))
@click.argument("images", type=options.PLACE)
@options.optional_captions
@options.split
@click.option("--output", "-o", type=options.PATH, required=True, metavar="FOLDER",
              help="Where to write the model, an open_clip folder for --model.")
@click.option("--task", type=click.Choice(["embed", "match"]), default="embed", show_default=True,
              help="embed: an encoder. match: a cross-encoder on the built-in encoder's towers, for `search --rerank`.")
@click.option("--held-out", type=click.IntRange(min=0), metavar="N",
              help="Photos kept apart to measure recall on.  [default: a tenth, at most 1000; with --task match none "
              "if these are fewer than 50]")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the photos.")
@click.option("--train-batch-size", "batch_size", type=click.IntRange(min=2),
              help="Pairs that compete with each other in a step.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True),
              help="Highest step size, after warming up.")
@click.option("--dim", type=click.IntRange(min=2), help="Dimensions of the shared space.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="The same seed gives the same model.")
@click.option("--prototype-share", type=click.FloatRange(0, 1),
              help="Of projections: pairs per real pair made from what the image tower's classifier knows; more "
              "keeps more general vocabulary, 0 learns from your captions alone.")
@click.option("--views", type=click.IntRange(min=1),
              help="Augmented copies of each photo that frozen layers of the image tower run over once, instead of in "
              "each epoch.  [default: 8 where the whole tower in front of a linear projection is frozen; else photos are "
              "augmented anew]")
@click.option("--changes-only", is_flag=True,
              help="Write only what differs from the packaged towers, as the built-in encoder ships.")
@click.option("--epsilon", type=click.FloatRange(min=0, min_open=True), metavar="E",
              help="Train projections privately: bound by this epsilon what any one photo with its captions can do "
              "to them. Needs the extra [privacy].")
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Of --epsilon.  [default: a tenth of one photo's share]")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), metavar="M",
              help="With --task match: stop training after M minutes, tower tokens aside.")
@train_options.towers
@options.device
@options.as_json
def command(images, captions, split, output, task, device, as_json, **given) -> None:
    """Train an encoder on IMAGES (a folder, archive, shards or a table) and their captions.

    By themselves towers stay as they are (EfficientNet-Lite0 and all-MiniLM-L6-v2); two projections into one
    space are trained contrastively. Tower outputs are kept in the cache folder, so training again with other
    settings takes a minute or two.

    Where an option says what to start from or what learns (--model, --architecture, --image-tower,
    --train-image, --lora, ...) towers learn too, from photos augmented anew in each epoch. Checkpoints are kept
    in FOLDER; --resume goes on from them, and without it an unfinished run is not written over. The epoch with
    the best recall over the held-out photos is what comes out, also of a run that Ctrl-C stopped.

    With --task match it is a small transformer that reads a text and an image together. It is trained
    to tell a caption's image from those that the built-in encoder confuses with it; how much its scores
    count, and whether it helps at all, is told by the held-out photos.
    """
    given = {name: value for name, value in given.items() if value is not None and not (value is False and name in _FLAGS)}
    kind = _kind(task, given)
    _refuse_unfit(kind, given)
    run = {"match": _match, "towers": _towers, "projections": _projections}[kind]
    run(images, captions, split, output, device, as_json, given)


def _kind(task, given) -> str:
    if task == "match":
        return task
    about, how = set(given) & train_options.ABOUT_TOWERS, set(given) & train_options.WHERE_TOWERS_LEARN
    frozen = given.get("train_image") == given.get("train_text") == "none" and about <= train_options.FROZEN and not how
    if about and not (frozen and _ends_in_projections(given)):
        return "towers"
    return "projections"


_FLAGS = {"changes_only", "compile", "resume", "restart", "tensorboard"}  # False where they are not given
_SHARED = {"epochs", "batch_size", "learning_rate", "seed"}
_OF_ENCODERS = _SHARED | {"held_out", "dim", "views", "changes_only"}
_FIT = {
    "match": _SHARED | {"held_out", "minutes"},
    "projections": _OF_ENCODERS | {"prototype_share", "epsilon", "delta"} | train_options.FROZEN,
    "towers": _OF_ENCODERS | train_options.ABOUT_TOWERS | train_options.WHERE_TOWERS_LEARN,
}
_WHERE = {"match": "to --task match", "projections": "where only projections learn; add --train-image or --model",
          "towers": "where towers learn"}


def _refuse_unfit(kind, given) -> None:
    unfit = sorted(set(given) - _FIT[kind])
    if unfit == ["minutes"]:
        raise click.UsageError("--minutes is for --task match.")
    if unfit:
        raise click.UsageError(f"{_as_typed(unfit[0], given)} means nothing {_WHERE[kind]}.")
    if kind != "towers" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise click.UsageError(f"Several processes (torchrun) mean nothing {_WHERE[kind]}.")
    if kind == "towers" and set(given) & (train_options.OF_PHOTOS | {"views", "compile"}):
        idle, how = _idle(given)
        if unfit := sorted(idle & set(given)):
            raise click.UsageError(f"{_as_typed(unfit[0], given)} means nothing where the image tower {how}.")


def _idle(given) -> tuple[set[str], str]:
    """Options that do nothing to an image tower that learns, or is kept, in the way that was said; and that way."""
    if _keeps_outputs(given):
        return train_options.OF_PHOTOS | {"compile"}, "is frozen and runs once over --views of each photo"
    if given.get("train_image", "all") == "all":
        return {"views"}, "runs anew in each epoch"
    if "views" in given:
        return {"compile"}, "learns from what its frozen layers said of --views of each photo"
    return set(), ""


def _as_typed(name, given) -> str:
    option = next(one for one in command.params if one.name == name)
    return (option.secondary_opts if given[name] is False else option.opts)[0]


def _ends_in_projections(given) -> bool:
    from retrieval.train.outputs import ends_in_projections

    return ends_in_projections(_loaded(given))


def _keeps_outputs(given) -> bool:
    """Those of a frozen image tower; see `retrieval.train.plan.Plan`."""
    from retrieval.train.outputs import image_projection

    return given.get("train_image") == "none" and image_projection(_loaded(given).visual) is not None


def _loaded(given):
    from retrieval.train.starting import start_model

    return start_model(train_options.start_of(given)).encoder.model


def _projections(images, captions, split, output, device, as_json, given) -> None:
    from retrieval.cli import output as out
    from retrieval.cli import train_output as said
    from retrieval.train.privacy_budget import PrivacySettings
    from retrieval.train.projection_loop import Settings
    from retrieval.train.projections import Watcher, train_projections

    views, alone, apart = given.pop("views", 8), given.pop("changes_only", False), given.pop("held_out", None)
    start = train_options.start_of(given)
    given = {name: value for name, value in given.items() if name not in train_options.FROZEN}
    epsilon, delta = given.pop("epsilon", None), given.pop("delta", None)
    if delta and not epsilon:
        raise click.UsageError("--delta is for --epsilon.")
    pairs = _pairs(images, captions, split)
    private = epsilon and PrivacySettings(epsilon, delta=delta or 0.1 / len(pairs.photos))
    with out.progress_bar("Tower outputs") as (set_total, advance):
        set_total(len(pairs.photos) * views)
        outcome = train_projections(
            pairs, output, Settings(**given), start=start, views=views, held_out=_held_out(apart, pairs),
            changes_only=alone, private=private, device=device,
            watcher=Watcher(on_photos=lambda view, count: advance(count), on_epoch=said.report_every_tenth),
        )
    said.show(outcome, output, as_json, {
        "photos": outcome.photos, "captions": outcome.captions, "loss": outcome.final.loss,
        "temperature": outcome.final.temperature,
        **({"epsilon": outcome.privacy.epsilon, "delta": f"{outcome.privacy.delta:.2g}"} if outcome.privacy else {}),
    }, outcome.validation, None if alone else "retrieval index SOURCE --model")


def _towers(images, captions, split, output, device, as_json, given) -> None:
    from contextlib import closing

    from retrieval.cli import output as out
    from retrieval.cli import train_output as said
    from retrieval.cli.interrupts import Interrupts
    from retrieval.train.dual_encoder import train_dual_encoder
    from retrieval.train.plan import Watcher
    from retrieval.train.processes import start

    resume, restart, tensorboard, alone = (
        given.pop(name, False) for name in ("resume", "restart", "tensorboard", "changes_only"))
    if resume and restart:
        raise click.UsageError("--resume goes on with a run, --restart begins anew; give one of them.")
    apart = given.pop("held_out", None)
    plan = train_options.plan_of(given)
    pairs = _pairs(images, captions, split)
    apart = _held_out(apart, pairs)
    learned = len(pairs.photos) - apart
    seen = {}
    in_all = {"Tower outputs": len(pairs.photos) * plan.views_of_frozen_tower, "Captions": sum(map(len, pairs.captions)),
              "Frozen layers": learned * (plan.views or 0)}
    with closing(start(device)) as processes, out.progress_bars() as show:

        def on_photos(what, count):
            seen[what] = seen.get(what, 0) + count
            show(what, seen[what], in_all.get(what, learned))

        with Interrupts("Finishing this step; once more to stop at once.") as interrupted:
            outcome = train_dual_encoder(
                pairs, output, plan, processes=processes, held_out=apart, device=device,
                resume=resume, restart=restart, tensorboard=tensorboard, changes_only=alone,
                watcher=Watcher(said.report_step, said.report_epoch, on_photos, interrupted.is_set),
            )
    if not processes.is_first:
        return
    if outcome.interrupted:
        best = f"{output} holds the model of epoch {outcome.best_epoch}, the best so far. " if outcome.best_epoch else ""
        click.echo(f"Interrupted after {outcome.steps} steps. {best}The same command with --resume goes on.", err=True)
        raise SystemExit(130)
    said.show(outcome, output, as_json, {
        "photos": outcome.photos, "captions": outcome.captions, "epochs": outcome.epochs, "loss": outcome.loss,
        "temperature": outcome.temperature, "trained parameters": outcome.trained_parameters,
        **({"GPU memory, bytes": outcome.peak_gpu_bytes} if outcome.peak_gpu_bytes else {}),
        **({"best epoch": outcome.best_epoch} if outcome.best_epoch else {}),
    }, outcome.recalls, "retrieval index SOURCE --model")


_TELLING = 50  # fewer photos held out tell nothing of a second look


def _match(images, captions, split, output, device, as_json, given) -> None:
    from retrieval.cli import output as out
    from retrieval.cli import train_output as said
    from retrieval.encoders import load_encoder
    from retrieval.train.cross_encoder import train_cross_encoder
    from retrieval.train.match import MatchSettings

    apart = given.pop("held_out", None)
    pairs = _pairs(images, captions, split)
    if apart is None and (apart := _held_out(None, pairs)) < _TELLING:
        apart = 0
    with out.progress_bar("Tower tokens") as (set_total, advance):
        set_total(len(pairs.photos))
        outcome = train_cross_encoder(
            pairs, output, MatchSettings(**given), load_encoder("builtin", device=device), held_out=apart,
            on_photos=advance, on_progress=said.report_match_step,
        )
    said.show_match(outcome, output, as_json)


def _pairs(images, captions, split):
    from retrieval.train.pairs import read_pairs

    pairs = read_pairs(images, captions, split=split)
    if pairs.missing:
        click.echo(f"Warning: {pairs.missing} captioned images are not in {images}, or cannot be read: "
                   f"{', '.join(pairs.missing_names)}{', ...' if pairs.missing > len(pairs.missing_names) else ''}", err=True)
    return pairs


def _held_out(wanted, pairs) -> int:
    return min(1000, len(pairs.photos) // 10) if wanted is None else wanted
