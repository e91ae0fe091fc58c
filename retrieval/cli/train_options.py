"""Options of `retrieval train` for runs in which towers learn."""

from __future__ import annotations

from typing import Any

import click


class _Share(click.ParamType):
    """all, none, or how many groups of layers, counted from the last."""

    name = "share"

    def convert(self, value, parameter, context):
        if value in ("all", "none"):
            return value
        if not str(value).isdecimal():
            self.fail(f"{value!r} is neither all, none nor a number of layer groups.", parameter, context)
        return int(value) or "none"


_SHARE = _Share()
_RATE = click.FloatRange(0, 1)
_POSITIVE = click.IntRange(min=1)

FROM_NOTHING = ("gru", "lstm", "transformer")  # text towers with random weights

_START = (
    click.option("--model", "-m", metavar="NAME",
                 help="Begin with this encoder, named as for `retrieval index`.  [default: builtin]"),
    click.option("--architecture", metavar="NAME",
                 help="Begin from nothing: an architecture of open_clip, such as ViT-S-32, with random weights."),
    click.option("--image-tower", metavar="NAME[:WEIGHTS]",
                 help="Begin with a tower of timm, such as vgg16 or resnet50: its published weights, :none, or "
                 ":FILE; or builtin."),
    click.option("--text-tower", metavar="NAME",
                 help="And with this beside it: gru, lstm or transformer (from nothing), builtin, or a text model of "
                 "the Hugging Face hub, by name or folder."),
)
_LEARNING = (
    click.option("--train-image", type=_SHARE, metavar="all|none|N",
                 help="What of the image tower learns: all, none (frozen) or its last N groups of layers.  "
                 "[default: all]"),
    click.option("--train-text", type=_SHARE, metavar="all|none|N", help="What of the text tower learns, likewise."),
    click.option("--lora", type=_POSITIVE, metavar="RANK",
                 help="Learn small additions to the towers' layers (LoRA) instead of all weights."),
    click.option("--layer-decay", type=click.FloatRange(0, 1, min_open=True),
                 help="Learning rate of a group of layers, as a share of that of the group behind it."),
    click.option("--keep-statistics/--learn-statistics", default=None,
                 help="Whether batch normalisations stay as they are.  [default: in towers that have weights]"),
    click.option("--tower-rate", type=click.FloatRange(min=0, min_open=True),
                 help="Learning rate of towers that have weights, as a share of the projections'.  "
                 "[default: 0.1; 1 for towers from nothing]"),
)
_LOSS = (
    click.option("--loss", metavar="NAME", help="infonce, siglip or vse++.  [default: infonce]"),
    click.option("--margin", type=click.FloatRange(min=0), help="Of vse++.  [default: 0.2]"),
    click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), help="Of infonce."),
    click.option("--captions-per-photo", metavar="N|all", help="Captions of a photo in a step.  [default: 1]"),
    click.option("--chunk", type=_POSITIVE, metavar="N",
                 help="Photos embedded at once: large batches in little memory, by gradient caching."),
    click.option("--teacher", metavar="MODEL", help="Learn from this encoder's vectors too (distillation)."),
    click.option("--distillation", type=click.FloatRange(min=0), help="Weight of the teacher.  [default: 1]"),
)
_AUGMENTATION = (
    click.option("--train-size", type=click.IntRange(min=16), metavar="PIXELS",
                 help="Side of what photos are cropped to while learning, for image towers that take any."),
    click.option("--crop", type=click.FloatRange(0, 1, min_open=True),
                 help="Smallest share of a photo that a random crop keeps; 1 for none.  [default: 0.5]"),
    click.option("--flip/--no-flip", default=None,
                 help="Mirror every other photo whose captions do not say left or right."),
    click.option("--colour", type=_RATE, help="Strength of changes of colour and light.  [default: 0.2]"),
    click.option("--randaugment", type=click.IntRange(min=0), metavar="N", help="Random operations on each photo."),
    click.option("--word-dropout", type=_RATE, help="Share of words left out of captions."),
    click.option("--image-dropout", type=_RATE,
                 help="Share of the image tower's outputs that its projection does not see; so with few photos."),
    click.option("--text-dropout", type=_RATE, help="And of the text tower's."),
)
_RUN = (
    click.option("--average", type=click.FloatRange(0, 1, max_open=True), metavar="DECAY",
                 help="Use a moving average of the weights, such as 0.999."),
    click.option("--patience", type=_POSITIVE, metavar="EPOCHS",
                 help="Stop when recall over the held-out photos was not better for so many epochs."),
    click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]),
                 help="Number format of the towers while they learn.  [default: auto]"),
    click.option("--compile", is_flag=True,
                 help="Compile the image tower with torch.compile: up to a minute first; try whether it pays, on a GPU."),
    click.option("--resume", is_flag=True,
                 help="Go on from the last checkpoint in the output folder, if need be at another --learning-rate."),
    click.option("--restart", is_flag=True,
                 help="Begin anew, though an unfinished run in the output folder is lost by it."),
    click.option("--tensorboard", is_flag=True, help="Write for TensorBoard too."),
)


def _names(options: tuple) -> set[str]:
    """Under which click hands them over."""
    def command(): ...

    for option in options:
        option(command)
    return {one.name for one in command.__click_params__}


ABOUT_TOWERS = _names(_START + _LEARNING)  # any of these has towers learn, beside projections
WHERE_TOWERS_LEARN = _names(_LOSS + _AUGMENTATION + _RUN)  # and these say how
FROZEN = {"model", "image_tower", "text_tower", "train_image", "train_text"}  # of these alone both can be frozen
OF_PHOTOS = {"train_size", "crop", "flip", "colour", "randaugment"}


def towers(command):
    """All of them."""
    for option in reversed(_START + _LEARNING + _LOSS + _AUGMENTATION + _RUN):
        command = option(command)
    return command


def start_of(given: dict[str, Any]):
    """Where to start, but for the dimensions, which belong to the projections."""
    from retrieval.train.starting import Start

    ways = ("model", "architecture", "image_tower", "text_tower")
    return Start(**{name: given[name] for name in ways if name in given} or {"model": "builtin"})


def plan_of(given: dict[str, Any]):
    """A plan from what was said; given holds only that."""
    from dataclasses import replace

    from retrieval.train.augment import Augmentation
    from retrieval.train.settings import Settings
    from retrieval.train.plan import Plan
    from retrieval.train.trainable import Tuning

    def chosen(kind, **renamed):
        fields = {name: renamed.get(name, name) for name in kind.__dataclass_fields__}
        return kind(**{name: given[option] for name, option in fields.items() if option in given})

    given = dict(given)
    share = {"all": None, "none": 0}
    for side in ("image", "text"):
        value = given.pop(f"train_{side}", "all")
        given[f"learn_{side}"] = share.get(value, value)
    if "captions_per_photo" in given:
        given["captions_per_photo"] = _captions_per_photo(given["captions_per_photo"])
    # Towers from nothing learn as fast as projections, which always begin so; others have much to lose.
    new = {"image": "architecture" in given or given.get("image_tower", "").endswith(":none"),
           "text": "architecture" in given or given.get("text_tower") in FROM_NOTHING}
    rate = given.pop("tower_rate", 0.1)
    given |= {f"{side}_rate": 1.0 if is_new else rate for side, is_new in new.items()}
    given.setdefault("keep_statistics", not new["image"])
    given.setdefault("precision", "auto")
    if "teacher" in given:
        given.setdefault("distillation", 1.0)
    return Plan(
        replace(start_of(given), dim=given.get("dim")), chosen(Tuning, image="learn_image", text="learn_text"),
        chosen(Settings), chosen(Augmentation), train_size=given.get("train_size"), teacher=given.get("teacher"),
        views=given.get("views"),
    )


def _captions_per_photo(value: str) -> int:
    if value == "all":
        return 0
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number from 1 nor all.", param_hint="--captions-per-photo")
    return int(value)
