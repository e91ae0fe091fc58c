"""Training a dual encoder, from nothing or in its last layers.

All train the same architecture in float32 on the same JPEGs, a random crop and one caption of each
photo in a step, with AdamW: ours by `retrieval train`'s own loop, the peer by the loop that comes with
open_clip (`open_clip_train.train.train_one_epoch`) over a DataLoader with two workers and open_clip's own
transform for training. What is timed is an epoch, decoding included; all begin with the model in memory.
Where only last layers learn, ours also learns from what the frozen ones in front said of augmented copies
(`--views`); how long one such copy of all photos takes, once before training, is told beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any

from benchmarks import timing
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.models import BUILTIN, CAPTIONS
from benchmarks.photos import photos

SHOWN = ("seconds", "seconds_a_view")
LOADER_WORKERS = 2
RATE = 5e-4


def cases(quick: bool) -> list[Case]:
    if quick:
        return [_case("ViT-S-32-alt", "64x64", 64, 64, 32, 16), _last_layers("64x64", 64, 64, 32, 16)]
    return [
        _case("ViT-S-32", "224 px", 224, 224, 256, 64), _case("ViT-S-32", "640x480", 640, 480, 200, 64),
        _last_layers("224 px", 224, 224, 256, 64),
    ]


def _case(architecture: str, size: str, width: int, height: int, count: int, batch: int) -> Case:
    return Case(
        name=f"train {architecture}, {size}",
        settings={"architecture": architecture, "width": width, "height": height, "images": count, "batch": batch,
                  "loader_workers": LOADER_WORKERS},
        contenders={"ours": Contender(ours, ours=True), "open_clip_train": Contender(open_clip_train)},
        unit="images_per_second", better="higher", baseline="open_clip_train", most_repeats=3,
    )


def _last_layers(size: str, width: int, height: int, count: int, batch: int) -> Case:
    return Case(
        name=f"train the built-in encoder's last 9 image and 2 text groups, {size}",
        settings={"model": BUILTIN, "image_groups": 9, "text_groups": 2, "width": width, "height": height, "images": count,
                  "batch": batch, "loader_workers": LOADER_WORKERS},
        contenders={
            "ours, --views": Contender(partial(ours, views=1), ours=True), "ours": Contender(ours, ours=True),
            "open_clip_train": Contender(open_clip_train),
        },
        unit="images_per_second", better="higher", baseline="open_clip_train", most_repeats=3,
    )


def ours(settings: Mapping[str, Any], work: Path, views: int = 0) -> Measure:
    from open_clip.transform import PreprocessCfg

    from retrieval.encoders.precision import resolve_device
    from retrieval.train.augment import Augmentation
    from retrieval.train.batches import Batches
    from retrieval.train.frozen_front import KeptViews, frozen_front
    from retrieval.train.heap import freed_memory_kept
    from retrieval.train.kept import Kept
    from retrieval.train.learner import Learner
    from retrieval.train.pairs import Pairs, Photo
    from retrieval.train.plan import Plan, training_preprocessing, training_transform
    from retrieval.train.processes import Processes
    from retrieval.train.settings import Settings
    from retrieval.train.starting import start_model

    files = sorted(photos(work, settings["width"], settings["height"], settings["images"]).iterdir())
    pairs = Pairs([Photo(file.name, file.read_bytes) for file in files], [[_caption(i)] for i in range(len(files))], 0)
    start, tuning = _begun(settings)
    plan = Plan(start, tuning, settings=Settings(
        batch_size=settings["batch"], learning_rate=RATE, precision="float32"
    ), augmentation=Augmentation(flip=False, colour=0.0))  # open_clip's own does no more
    trainee = start_model(plan.start)
    preprocessing, device = PreprocessCfg(**trainee.encoder.preprocessing), resolve_device("auto")
    kept, seconds = Kept(), 0.0
    if views:
        front = frozen_front(trainee.encoder.model, tuning, (settings["height"], settings["width"]))
        assert front is not None  # a convolutional tower has one
        keeping = KeptViews(front, work / "views", training_preprocessing(preprocessing, plan),
                            augmentation=plan.augmentation, seed=0, device=device)
        rmtree(work / "views", ignore_errors=True)
        found = []
        seconds = timing.seconds(lambda: found.extend(keeping.of(pairs, views, lambda count: None))) / views
        kept = Kept(views=found, front=front.names)
    batches = Batches(pairs, training_transform(preprocessing, plan), batch_size=settings["batch"], seed=0,
                      augmentation=plan.augmentation, kept=kept.views)
    learner = Learner(trainee, plan.settings, tuning, 100 * batches.steps, device=device, processes=Processes(),
                      kept=kept)
    epochs = iter(range(10**6))
    memory = ExitStack()
    memory.enter_context(freed_memory_kept())  # as `retrieval train` does; until this process ends

    def epoch(memory: ExitStack = memory) -> None:
        for batch in batches.epoch(next(epochs)):
            learner.learn(batch)

    return _rate(settings, epoch, seconds)


def _begun(settings: Mapping[str, Any]) -> Any:
    """What training starts from, and what of it learns."""
    from retrieval.train.starting import Start
    from retrieval.train.trainable import Tuning

    if "model" not in settings:
        return Start(architecture=settings["architecture"]), Tuning()
    return Start(model=settings["model"]), Tuning(settings["image_groups"], settings["text_groups"], keep_statistics=True)


def open_clip_train(settings: Mapping[str, Any], work: Path) -> Measure:
    import torch
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch
    from PIL import Image

    files = sorted(photos(work, settings["width"], settings["height"], settings["images"]).iterdir())
    warnings.filterwarnings("ignore", "This DataLoader will create")  # torch's advice, on one core
    model, preprocess, tokenize = _open_clip(settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    loader = torch.utils.data.DataLoader(
        _Pairs(files, preprocess, tokenize, Image.open), settings["batch"], shuffle=True, drop_last=True,
        num_workers=settings["loader_workers"],
    )
    loader.num_batches, loader.num_samples = len(loader), len(files)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
    options = SimpleNamespace(
        device=device, precision="fp32", distill=False, accum_freq=1, skip_scheduler=True, grad_clip_norm=1.0,
        horovod=False, rank=0, world_size=1, local_rank=0, log_local=False, log_every_n_steps=100, batch_size=settings["batch"],
        wandb=False,
    )
    data = {"train": SimpleNamespace(dataloader=loader, set_epoch=lambda epoch: None)}

    def epoch() -> None:
        train_one_epoch(model, data, ClipLoss(), 0, optimizer, None, None, None, options)

    return _rate(settings, epoch)


def _open_clip(settings: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """Model, transform and tokenizer, as the peer has them."""
    import open_clip

    if "model" not in settings:
        name = settings["architecture"]
        model, preprocess, _ = open_clip.create_model_and_transforms(name, output_dict=True)
        return model, preprocess, open_clip.get_tokenizer(name)
    from retrieval.train.starting import start_model
    from retrieval.train.trainable import make_trainable

    start, tuning = _begun(settings)
    encoder = start_model(start).encoder
    model = make_trainable(encoder.model, tuning)
    model.output_dict = True
    return model, open_clip.image_transform(settings["height"], is_train=True), encoder.tokenize


def _rate(settings: Mapping[str, Any], epoch: Any, seconds_a_view: float = 0.0) -> Measure:
    trained = settings["images"] // settings["batch"] * settings["batch"]  # both leave a smaller last batch out

    def measure() -> Metrics:
        taken = timing.seconds(epoch)
        kept = {"seconds_a_view": seconds_a_view} if seconds_a_view else {}
        return {"seconds": taken, "images_per_second": trained / taken, **kept}

    return measure


def _caption(number: int) -> str:
    return f"{CAPTIONS[number % len(CAPTIONS)]}, number {number}"


class _Pairs:
    """What torch calls a dataset: anything with a length and items."""

    def __init__(self, files: list[Path], preprocess: Any, tokenize: Any, open_image: Any):
        self.files, self.preprocess, self.tokenize, self.open_image = files, preprocess, tokenize, open_image

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return self.preprocess(self.open_image(self.files[index])), self.tokenize([_caption(index)])[0]
