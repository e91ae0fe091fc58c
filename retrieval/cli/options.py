"""Options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import click

from retrieval.wanted import DIVERSE_WEIGHT, SAME_PICTURE


class _Path(click.Path):
    """A path that is not empty: an unset shell variable must not mean the current folder."""

    def convert(self, value, parameter, context):
        if value == "":
            self.fail("the path is empty.", parameter, context)
        return super().convert(value, parameter, context)


PATH = _Path(path_type=Path)
PLACE = _Path(path_type=str)  # a path or a URI, whose slashes must stay as they are

model = click.option(
    "--model", "-m", metavar="NAME", envvar="RETRIEVAL_MODEL",
    help="Encoder: auto, builtin, builtin-multilingual, MODEL or MODEL/WEIGHTS of open_clip, hf-hub:ORG/NAME, "
    "or a model folder. See `retrieval models`.",
)


def model_of_environment() -> str | None:
    """For `models`. Not click's envvar: with several values it would split a path at its spaces."""
    return os.environ.get("RETRIEVAL_MODEL") or None


models = click.option(
    "--model", "-m", "models", multiple=True, metavar="NAME",
    help="Encoder, as for `retrieval index`; repeat it to compare several.",
)
device = click.option(
    "--device", default="auto", show_default=True, envvar="RETRIEVAL_DEVICE",
    help="auto, cpu, cuda, cuda:1, mps.",
)
precision = click.option(
    "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto",
    show_default=True, envvar="RETRIEVAL_PRECISION",
    help="Number format of the encoder; auto is bfloat16 where the hardware is fast at it.",
)
batch_size = click.option(
    "--batch-size", type=click.IntRange(min=1), envvar="RETRIEVAL_BATCH_SIZE",
    help="Images committed at once; where memory is short, fewer are encoded at once.  "
    "[default: 64, on CUDA 512]",
)
exact_preprocess = click.option(
    "--exact-preprocess", is_flag=True,
    help="Decode and resize every image in full; slower, and vectors agree to a cosine of 0.999.",
)
compile_tower = click.option(
    "--compile", "compiled", is_flag=True,
    help="Compile the image tower with torch.compile: up to a minute first; try whether it pays, on a GPU.",
)
images_of_tables = click.option(
    "--images", type=PATH, metavar="FOLDER",
    help="Where relative image paths of tables begin.  [default: the table's folder]",
)
image_column = click.option(
    "--image-column", metavar="NAME", help="The column of paths or links, where a table calls it otherwise.",
)
caption_column = click.option("--caption-column", metavar="NAME", help="The column of captions, likewise.")
retry_failed = click.option(
    "--retry-failed", is_flag=True,
    help="Try files again that could not be read before, though they did not change.",
)
with_captions = click.option(
    "--with-captions/--without-captions", "captions", default=None,
    help="Embed captions too, for `search --in captions`; without: drop their vectors.  "
    "[default: as the last run]",
)
frames = click.option(
    "--frames", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
    help="Frames of each animation, or pages of a TIFF, spread evenly over it; each is found by itself.",
)
video_every = click.option(
    "--video-every", type=click.FloatRange(min=0.1), metavar="SECONDS",
    help="Sample a frame of each video every so many seconds. Without it, videos in folders are passed "
    "over, and a video given by name is sampled every 10 seconds. Needs the extra [video].",
)
class _Bytes(click.ParamType):
    """A size such as 4GB, 500MB or a number of bytes; units are powers of 1,000."""

    name = "size"
    _UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

    def convert(self, value, parameter, context):
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(?:(B?)|([KMGT])B?)\s*", value.upper())
        size = int(float(found[1]) * self._UNITS[found[3] or ""]) if found else 0
        if size < 1:
            self.fail(f"{value!r} is not a size. Examples: 4GB, 500MB.", parameter, context)
        return size


index_factory = click.option(
    "--index", "factory", metavar="auto|FACTORY",
    help="How vectors are searched: auto (exactly, while that is quick), or a FAISS factory string such as "
    "Flat, HNSW32 or IVF1024,PQ64x4fs, or CAGRA32, a GPU's graph.  [default: as the last run, at first auto]",
)
index_memory = click.option(
    "--memory", type=_Bytes(), metavar="SIZE",
    help="What the index may take, such as 4GB.  [default: what is free]",
)
target_recall = click.option(
    "--target-recall", type=click.FloatRange(min=0, min_open=True, max=1), metavar="RECALL",
    help="Share of the true 10 best that a text is to find; an index is tuned to it.  "
    "[default: as the last run, at first 0.95]",
)
retune = click.option("--retune", is_flag=True, help="Choose and tune the index again.")
no_calibration = click.option(
    "--no-calibration", is_flag=True,
    help="Order images for words by their score alone; see `retrieval calibrate`.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_CAPTIONS_HELP = "TSV or CSV with columns image and caption; Flickr8k tokens; COCO or Karpathy JSON; JSON lines."
captions = click.option("--captions", type=PATH, required=True, metavar="FILE", help=_CAPTIONS_HELP)
optional_captions = click.option("--captions", type=PATH, metavar="FILE", help=_CAPTIONS_HELP)
split = click.option("--split", metavar="NAME", help="Use only captions of this split.")


class _AutoOr(click.ParamType):
    """A number in a range, or the word auto where that means something."""

    name = "number"

    def __init__(self, low: float, high: float, *, auto: bool = False):
        self._low, self._high, self._auto = low, high, auto

    def convert(self, value, parameter, context):
        if isinstance(value, float) or (self._auto and value == "auto"):
            return value
        words = f"a number from {self._low:g} to {self._high:g}" + (", or auto" if self._auto else "")
        try:
            number = float(value)
        except ValueError:
            option = parameter.opts[0]
            self.fail(
                f"{value!r} is not {words}. If it is your query, put it before {option}.", parameter, context
            )
        if not self._low <= number <= self._high:  # also false for nan
            self.fail(f"{value} is not {words}.", parameter, context)
        return number


_REFINEMENTS = (
    click.option("--min-score", type=_AutoOr(-1, 1, auto=True), metavar="X|auto",
                 help="Leave out what scores lower. auto: what is likely not meant at all, by an estimate "
                 "that is shown as relevance."),
    click.option("--dedup", type=_AutoOr(0, 1), is_flag=False, flag_value=str(SAME_PICTURE), metavar="[SCORE]",
                 help="Show a picture once: equal files, and images whose cosine is at least SCORE. Duplicates are how often "
                 "it comes again, at least.  "
                 f"[without a value: {SAME_PICTURE}]"),
    click.option("--diverse", type=_AutoOr(0, 1), is_flag=False, flag_value=str(DIVERSE_WEIGHT), metavar="[WEIGHT]",
                 help="Spread the results: WEIGHT is that of the score, the rest that of being unlike those "
                 f"before.  [without a value: {DIVERSE_WEIGHT}]"),
    click.option("--rerank", metavar="MODEL",
                 help="Order the best 100 by another, larger encoder, named as for `retrieval index`, or the "
                 "best 20 by a cross-encoder: the folder of one trained with --task match."),
    click.option("--templates", type=click.Choice(["on", "off", "auto"]), default="auto", show_default=True,
                 help="Put queries of up to three words into sentences; auto: of one word, for models that it helps."),
)


def refinements(command):
    """What to do with the results of a search before they are shown."""
    for option in reversed(_REFINEMENTS):
        command = option(command)
    return command


_FORMS = (
    click.option("--thumbnails/--no-thumbnails", default=None,
                 help="Pictures in the table: by the protocols of Kitty, iTerm2 or Sixel, or in half blocks.  "
                 "[default: on a terminal with colours]"),
    click.option("--paths", is_flag=True, help="Print only the files, each once: of a video's frame, the video."),
    click.option("-0", "--null", is_flag=True,
                 help="End paths with NUL instead of a line break, as xargs -0 reads them."),
    click.option("--html", type=PATH, metavar="FILE",
                 help="Write a contact sheet too: one file, pictures inside."),
    click.option("--open", "open_it", is_flag=True, help="Open the contact sheet, or else the best match's file."),
)


def forms(command):
    """In which form results come."""
    for option in reversed(_FORMS):
        command = option(command)
    return command


def table_options(sources: Sequence[str], images: Path | None, image_column: str | None, caption_column: str | None):
    """What the options say of tables. Raises click.UsageError if they do, and no source is a table."""
    from retrieval.corpus.tables import TableOptions, is_table

    given = {"--images": images, "--image-column": image_column, "--caption-column": caption_column}
    first = next((name for name, value in given.items() if value), None)
    if first and not any(map(is_table, sources)):
        raise click.UsageError(f"{first} is about tables, and none of the sources is one.")
    return TableOptions(images, image_column, caption_column)


def examples(*lines: str) -> str:
    """An epilog with example commands, which click leaves unwrapped."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
