"""Training a dual encoder from nothing.

Both train the same architecture in float32 on the same JPEGs, a random crop and one caption of each
photo in a step, with AdamW: ours by `retrieval train`'s own loop, the peer by the loop that comes with
open_clip (`open_clip_train.train.train_one_epoch`) over a DataLoader with two workers and open_clip's own
transform for training. What is timed is an epoch, decoding included; both begin with the model in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import timing
from benchmarks.case import Case, Contender, Measure, Metrics
from benchmarks.models import CAPTIONS
from benchmarks.photos import photos

SHOWN = ("seconds",)
LOADER_WORKERS = 2
RATE = 5e-4


def cases(quick: bool) -> list[Case]:
    if quick:
        return [_case("ViT-S-32-alt", "64x64", 64, 64, 32, 16)]
    return [_case("ViT-S-32", "224 px", 224, 224, 256, 64), _case("ViT-S-32", "640x480", 640, 480, 200, 64)]


def _case(architecture: str, size: str, width: int, height: int, count: int, batch: int) -> Case:
    return Case(
        name=f"train {architecture}, {size}",
        settings={"architecture": architecture, "width": width, "height": height, "images": count, "batch": batch,
                  "loader_workers": LOADER_WORKERS},
        contenders={"ours": Contender(ours, ours=True), "open_clip_train": Contender(open_clip_train)},
        unit="images_per_second", better="higher", baseline="open_clip_train", most_repeats=3,
    )


def ours(settings: Mapping[str, Any], work: Path) -> Measure:
    from open_clip.transform import PreprocessCfg

    from retrieval.encoders.precision import resolve_device
    from retrieval.train.augment import Augmentation
    from retrieval.train.batches import Batches
    from retrieval.train.learner import Learner, Settings
    from retrieval.train.pairs import Pairs, Photo
    from retrieval.train.processes import Processes
    from retrieval.train.starting import Start, start_model
    from retrieval.train.dual_encoder import Plan, training_transform
    from retrieval.train.trainable import Tuning

    files = sorted(photos(work, settings["width"], settings["height"], settings["images"]).iterdir())
    pairs = Pairs([Photo(file.name, file.read_bytes) for file in files], [[_caption(i)] for i in range(len(files))], 0)
    plan = Plan(Start(architecture=settings["architecture"]), settings=Settings(
        batch_size=settings["batch"], learning_rate=RATE, precision="float32"
    ), augmentation=Augmentation(flip=False, colour=0.0))  # open_clip's own does no more
    trainee = start_model(plan.start)
    transform = training_transform(PreprocessCfg(**trainee.encoder.preprocessing), plan)
    batches = Batches(pairs, transform, batch_size=settings["batch"], seed=0, augmentation=plan.augmentation)
    learner = Learner(trainee, plan.settings, Tuning(), 100 * batches.steps, device=resolve_device("auto"),
                      processes=Processes())
    epochs = iter(range(10**6))

    def epoch() -> None:
        for batch in batches.epoch(next(epochs)):
            learner.learn(batch)

    return _rate(settings, epoch)


def open_clip_train(settings: Mapping[str, Any], work: Path) -> Measure:
    import open_clip
    import torch
    from open_clip.loss import ClipLoss
    from open_clip_train.train import train_one_epoch
    from PIL import Image

    files = sorted(photos(work, settings["width"], settings["height"], settings["images"]).iterdir())
    warnings.filterwarnings("ignore", "This DataLoader will create")  # torch's advice, on one core
    model, preprocess, _ = open_clip.create_model_and_transforms(settings["architecture"], output_dict=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    tokenize = open_clip.get_tokenizer(settings["architecture"])
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


def _rate(settings: Mapping[str, Any], epoch: Any) -> Measure:
    trained = settings["images"] // settings["batch"] * settings["batch"]  # both leave a smaller last batch out

    def measure() -> Metrics:
        taken = timing.seconds(epoch)
        return {"seconds": taken, "images_per_second": trained / taken}

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
