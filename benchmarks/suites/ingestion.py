"""From a folder of JPEGs to a searchable collection.

Ours is index_sources: scan, read, hash, decode, turn upright, embed, commit, build the index. The
peer is the loop that people write: a torch DataLoader with two workers over open_clip's own
preprocessing, float32, vectors saved as one .npy. Both load the model within the measured time. The
peer's memory is that of its main process, without the loader's workers.

The share of the limit tells what a pipeline loses beside its two stages. Decoding (read, hash, decode,
preprocess) and encoding are first measured alone, each on all cores; the pipeline, its encoder loaded,
has both on the same cores and does all else besides. The limit, and the share of it, are

    limit = 1 / (1 / decoded images a second + 1 / encoded images a second)
    share = indexed images a second / limit
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.kept import remove
from benchmarks.models import BUILTIN, VIT_B_32, name_for_us, plain_open_clip
from benchmarks.photos import photos

SHOWN = ("indexed_images_per_second", "decoded_images_per_second", "encoded_images_per_second")
BATCH = 64
LOADER_WORKERS = 2
SIZES = {"224 px": (224, 224, 400), "640x480": (640, 480, 200), "12 MP": (4000, 3000, 80)}
QUICK_SIZES = {"640x480": (640, 480, 24)}


def cases(quick: bool) -> list[Case]:
    sizes = QUICK_SIZES if quick else SIZES
    models = [BUILTIN] if quick else [VIT_B_32, BUILTIN]
    return [
        *(_first_run(model, size, *sizes[size]) for model in models for size in sizes),
        *(_share_of_limit(models[0], size, *sizes[size]) for size in sizes),
        _run_again("640x480", *sizes["640x480"]),
    ]


def _first_run(model: str, size: str, width: int, height: int, count: int) -> Case:
    return Case(
        name=f"index {size}, {model}",
        settings={"model": model, "width": width, "height": height, "images": count, "batch": BATCH,
                  "loader_workers": LOADER_WORKERS},
        contenders={
            "ours": Contender(index_anew, ours=True),
            "open_clip loop": Contender(open_clip_loop),
        },
        unit="images_per_second", better="higher", baseline="open_clip loop",
        warm_up=0, most_repeats=3,  # minutes a round; the median leaves a cold first one out
    )


def _share_of_limit(model: str, size: str, width: int, height: int, count: int) -> Case:
    return Case(
        name=f"share of the limit {size}, {model}",
        settings={"model": model, "width": width, "height": height, "images": count, "batch": BATCH},
        contenders={"ours": Contender(stages_and_pipeline, ours=True)},
        unit="share_of_limit", better="higher", most_repeats=3,
    )


def _run_again(size: str, width: int, height: int, count: int) -> Case:
    return Case(
        name=f"index an unchanged folder, {size}",
        settings={"model": BUILTIN, "width": width, "height": height, "images": count},
        contenders={"ours": Contender(partial(index_anew, again=True), ours=True)},
        unit="seconds", better="lower",
    )


def index_anew(settings: Mapping[str, Any], work: Path, again: bool = False) -> Measure:
    """Index into a new collection, or `again` into one that has everything already."""
    from retrieval.maintain import Options, index_sources

    folder = photos(work, settings["width"], settings["height"], settings["images"])
    options = Options(model=name_for_us(settings["model"], work))
    collection = work / "ingestion.collection"
    remove(collection)
    if again:
        index_sources([folder], collection, options)

    def measure() -> Metrics:
        if not again:
            remove(collection)
        taken = timing.seconds(lambda: index_sources([folder], collection, options))
        return {"seconds": taken, "images_per_second": settings["images"] / taken}

    return measure


def stages_and_pipeline(settings: Mapping[str, Any], work: Path) -> Measure:
    from retrieval.corpus.folder import scan
    from retrieval.encoders import load_encoder
    from retrieval.maintain import Options, index_sources
    from retrieval.reading import EncoderOnDemand, read_ahead

    folder = photos(work, settings["width"], settings["height"], settings["images"])
    loaded = EncoderOnDemand(load_encoder(name_for_us(settings["model"], work)))
    files, batch = scan([folder]).images, settings["batch"]
    options = Options(model=loaded().name, batch_size=batch)
    collection = work / "ingestion.collection"

    def measure() -> Metrics:
        prepared: list[Any] = []
        decoding = timing.seconds(
            lambda: prepared.extend(one.pixels for one in read_ahead(files, (), loaded, ahead=lambda: 2 * batch))
        )
        encoding = timing.seconds(
            lambda: [loaded().encode_prepared(prepared[i : i + batch]) for i in range(0, len(files), batch)]
        )
        remove(collection)
        pipeline = timing.seconds(lambda: index_sources([folder], collection, options, encoder=loaded))
        return {
            "share_of_limit": (decoding + encoding) / pipeline,
            **{f"{what}_images_per_second": len(files) / seconds for what, seconds in
               (("indexed", pipeline), ("decoded", decoding), ("encoded", encoding))},
        }

    return measure


def open_clip_loop(settings: Mapping[str, Any], work: Path) -> Measure:
    import numpy as np
    import torch
    from PIL import Image

    folder = photos(work, settings["width"], settings["height"], settings["images"])
    paths = sorted(folder.iterdir())
    warnings.filterwarnings("ignore", "This DataLoader will create")  # torch's advice, on one core

    def embed() -> None:
        model, preprocess, _ = plain_open_clip(settings["model"], work)
        device = next(model.parameters()).device
        loader = torch.utils.data.DataLoader(
            _Images(paths, preprocess, Image.open), settings["batch"],
            num_workers=settings["loader_workers"],
        )
        vectors = []
        with torch.no_grad():
            for pixels in loader:
                features = model.encode_image(pixels.to(device))
                vectors.append(torch.nn.functional.normalize(features, dim=-1).cpu().numpy())
        np.save(work / "open_clip_loop.npy", np.concatenate(vectors))

    def measure() -> Metrics:
        taken = timing.seconds(embed)
        return {"seconds": taken, "images_per_second": settings["images"] / taken}

    return measure


class _Images:
    """What torch calls a dataset: anything with a length and items."""

    def __init__(self, paths: list[Path], preprocess: Any, open_image: Any):
        self.paths, self.preprocess, self.open_image = paths, preprocess, open_image

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.preprocess(self.open_image(self.paths[index]))
