"""`retrieval train` from start to end: pairs, tower outputs, loop, validation, model folder."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from safetensors.torch import save_file

from retrieval import __version__
from retrieval.encoders import builtin
from retrieval.encoders.precision import resolve_device
from retrieval.encoders.towers import text_tower_folder
from retrieval.errors import TrainingError
from retrieval.files import cache_folder, write_json
from retrieval.train.projection_loop import Epoch, Examples, Projections, Settings, train
from retrieval.train.outputs import TowerOutputs, without_projections
from retrieval.train.pairs import Pairs
from retrieval.train.prototypes import class_texts, prototypes
from retrieval.train.validation import Recalls, recalls


MIN_PAIRS = 64  # fewer give no negatives worth the name
VIEWS = 8
# Names under which open_clip keeps the projections.
_IMAGE, _TEXT, _SCALE = "visual.head.proj.weight", "text.proj.weight", "logit_scale"


@dataclass(frozen=True)
class Watcher:
    """How training tells how far it is; every call is optional."""

    on_photos: Callable[[int, int], None] = lambda view, count: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None


@dataclass(frozen=True)
class Outcome:
    """validation: R@1, R@5, R@10 in percent by direction, over the photos held out; or empty."""

    photos: int
    captions: int
    held_out: int
    final: Epoch
    validation: Recalls = field(default_factory=dict)


def train_projections(
    pairs: Pairs,
    output: Path,
    settings: Settings,
    *,
    views: int = VIEWS,
    held_out: int = 0,
    projections_only: bool = False,
    device: str = "auto",
    watcher: Watcher = Watcher(),
) -> Outcome:
    """Train projections on the packaged towers and write an open_clip model folder.

    views             augmented copies of each photo, the photo itself included
    held_out          photos kept out of training to measure recall on
    projections_only  write the trained tensors alone, as this package ships them

    Raises TrainingError, WeightsError; OSError if `output` cannot be written.
    """
    if len(pairs.photos) - held_out < MIN_PAIRS:
        raise TrainingError(
            f"{len(pairs.photos)} captioned photos, {held_out} of them held out, are too few to "
            f"train on; at least {MIN_PAIRS} are needed."
        )
    output.mkdir(parents=True, exist_ok=True)  # before the long work, so that it fails early
    config = deepcopy(builtin.config())
    config["model_cfg"]["embed_dim"] = settings.dim
    outputs = TowerOutputs(
        without_projections(builtin.load_towers_only("towers", config)), cache_folder() / "towers", device=device
    )
    photos = np.stack([
        outputs.of_photos(pairs.photos, view, lambda count, view=view: watcher.on_photos(view, count))
        for view in range(views)
    ])  # (views, n, image width)
    texts = outputs.of_texts([text for texts in pairs.captions for text in texts])
    counts = np.array([len(texts) for texts in pairs.captions])
    classes = None
    if settings.prototype_share:
        variants = class_texts()
        embedded = outputs.of_texts([text for texts in variants for text in texts])
        classes = prototypes(torch.from_numpy(embedded), variants)

    chosen = np.random.default_rng(settings.seed).permutation(len(counts))
    kept, apart = np.sort(chosen[held_out:]), np.sort(chosen[:held_out])
    epochs: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(epoch)
        watcher.on_epoch(epoch)

    examples = Examples(
        torch.from_numpy(photos[:, kept]),
        torch.from_numpy(texts[_captions_of(kept, counts)]),
        torch.from_numpy(counts[kept]),
        classes,
    )
    projections = train(examples, settings, device=resolve_device(device), on_epoch=on_epoch)
    validation = {}
    if held_out:
        validation = _recall(
            projections, photos[0][apart], texts[_captions_of(apart, counts)], counts[apart]
        )
    outcome = Outcome(len(kept), int(counts[kept].sum()), held_out, epochs[-1], validation)
    _write(output, config, projections, projections_only)
    write_json(output / "training.json", {
        "software": f"crossmodal-retrieval {__version__}", "settings": asdict(settings),
        "views": views, **asdict(outcome),
    })
    return outcome


def _captions_of(photos: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Caption numbers of chosen photos, in their order."""
    firsts = counts.cumsum() - counts
    return np.concatenate([np.arange(firsts[one], firsts[one] + counts[one]) for one in photos])


def _recall(
    projections: Projections, photos: np.ndarray, texts: np.ndarray, counts: np.ndarray
) -> Recalls:
    with torch.no_grad():
        images, captions = (
            side.numpy() for side in
            projections(torch.from_numpy(photos).float(), torch.from_numpy(texts).float())
        )
    return recalls(images, captions, counts)


def _write(output: Path, config: dict[str, Any], projections: Projections, alone: bool) -> None:
    tensors = {
        _IMAGE: projections.image.weight, _TEXT: projections.text.weight,
        _SCALE: projections.logit_scale,
    }
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    write_json(output / "open_clip_config.json", config)
    if alone:
        save_file(tensors, output / builtin.PROJECTIONS_FILE.name)
        return
    whole = builtin.load_towers_only("towers", config).model
    whole.load_state_dict(tensors, strict=False)
    save_file(whole.state_dict(), output / "open_clip_model.safetensors")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                 "vocab.txt"):
        shutil.copyfile(text_tower_folder() / name, output / name)
