"""Embedding images and texts, once they are in memory.

Images are preprocessed beforehand; texts are tokenised within the measured time. The peer runs
open_clip's model on the same weights in float32, and normalises as ours does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.case import Case, Contender, LeftOut, Measure, Metrics
from benchmarks.models import BUILTIN, CAPTIONS, VIT_B_32, name_for_us, plain_open_clip

SHOWN = ()
SIDE = 256  # pixels of the pictures before preprocessing


def cases(quick: bool) -> list[Case]:
    if quick:
        return [_case(BUILTIN, "images", 16, 16), _case(BUILTIN, "texts", 1, 16)]
    return [
        _case(model, what, batch, 512 if batch > 1 else 64)
        for model in (BUILTIN, VIT_B_32) for what in ("images", "texts") for batch in (1, 64)
    ]


def _case(model: str, what: str, batch: int, total: int) -> Case:
    one = what.removesuffix("s")
    return Case(
        name=f"{model}, {what}, batch {batch}",
        settings={"model": model, "what": what, "batch": batch, "total": total},
        contenders={
            "ours float32": Contender(partial(ours, precision="float32"), ours=True),
            "ours bfloat16": Contender(partial(ours, precision="bfloat16"), ours=True),
            "open_clip float32": Contender(plain),
        },
        unit=f"{one}s_per_second", better="higher", baseline="open_clip float32",
    )


def ours(settings: Mapping[str, Any], work: Path, precision: str) -> Measure:
    from retrieval.encoders import load_encoder
    from retrieval.encoders.precision import fast_dtype, resolve_device

    if precision == "bfloat16" and str(fast_dtype(resolve_device("auto"))) != "torch.bfloat16":
        raise LeftOut("this machine has no native bfloat16")
    encoder = load_encoder(name_for_us(settings["model"], work), precision=precision)
    if settings["what"] == "texts":
        return _rate(settings, encoder.encode_texts, CAPTIONS)
    return _rate(settings, encoder.encode_prepared, [encoder.prepare(one) for one in _pictures(settings)])


def plain(settings: Mapping[str, Any], work: Path) -> Measure:
    import torch

    model, preprocess, tokenize = plain_open_clip(settings["model"], work)
    device = next(model.parameters()).device

    @torch.no_grad()
    def embed(batch: Sequence[Any]) -> Any:
        if settings["what"] == "texts":
            features = model.encode_text(tokenize(list(batch)).to(device))
        else:
            features = model.encode_image(torch.stack(list(batch)).to(device))
        return torch.nn.functional.normalize(features, dim=-1).cpu().numpy()

    texts = settings["what"] == "texts"
    return _rate(settings, embed, CAPTIONS if texts else [preprocess(one) for one in _pictures(settings)])


def _pictures(settings: Mapping[str, Any]) -> list[Any]:
    from benchmarks.photos import picture

    return [picture(SIDE, SIDE, seed) for seed in range(min(64, settings["total"]))]


def _rate(settings: Mapping[str, Any], embed: Callable[[Sequence[Any]], Any], inputs: Sequence[Any]) -> Measure:
    """Embed `total` inputs, `batch` at a time, going round the inputs."""
    size, total = settings["batch"], settings["total"]
    rounds = [[inputs[(start + i) % len(inputs)] for i in range(size)] for start in range(0, total, size)]

    def measure() -> Metrics:
        taken = timing.seconds(lambda: [embed(batch) for batch in rounds])
        return {"seconds": taken, f"{settings['what']}_per_second": total / taken}

    return measure
