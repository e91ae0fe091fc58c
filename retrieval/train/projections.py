"""`retrieval train` from start to end: pairs, tower outputs, loop, validation, model folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np
import torch

from retrieval import __version__
from retrieval.encoders import BUILTIN, builtin
from retrieval.encoders.precision import resolve_device
from retrieval.encoders.towers import IMAGE_TOWER
from retrieval.errors import TrainingError
from retrieval.files import cache_folder, write_json
from retrieval.generic_queries import generic_queries
from retrieval.train import model_folder
from retrieval.train.outputs import TowerOutputs, ends_in_projections, without_projections
from retrieval.train.pairs import Pairs, refuse_equal_captions
from retrieval.train.privacy import train_privately
from retrieval.train.privacy_budget import PrivacySettings, Spent
from retrieval.train.projection_loop import Epoch, Examples, Projections, Settings, train
from retrieval.train.prototypes import class_texts, prototypes
from retrieval.train.starting import Start, Trainee, start_model
from retrieval.train.validation import Recalls, recalls

MIN_PAIRS = 64  # fewer give no negatives worth the name
VIEWS = 8


@dataclass(frozen=True)
class Watcher:
    """How training tells how far it is; every call is optional."""

    on_photos: Callable[[int, int], None] = lambda view, count: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None


@dataclass(frozen=True)
class Outcome:
    """validation: R@1, R@5, R@10 in percent by direction, over the photos held out; or empty.

    privacy: what private training spent; its loss is that of the public pairs.
    """

    photos: int
    captions: int
    held_out: int
    final: Epoch
    validation: Recalls = field(default_factory=dict)
    privacy: Spent | None = None


def train_projections(
    pairs: Pairs,
    output: Path,
    settings: Settings,
    *,
    start: Start = Start(model=BUILTIN),
    views: int = VIEWS,
    held_out: int = 0,
    changes_only: bool = False,
    private: PrivacySettings | None = None,
    device: str = "auto",
    watcher: Watcher = Watcher(),
) -> Outcome:
    """Train projections on frozen towers and write an open_clip model folder.

    start         the model whose towers they are; its own projections are left behind
    views         augmented copies of each photo, the photo itself included
    held_out      photos kept out of training to measure recall on
    changes_only  write what differs from the packaged towers alone, as this package ships it

    private       bound what any one photo with its captions can do to the result; see `retrieval.train.privacy`

    Raises TrainingError, also for towers without a linear map at their ends, WeightsError; OSError if
    `output` cannot be written.
    """
    if len(pairs.photos) - held_out < MIN_PAIRS:
        raise TrainingError(
            f"{len(pairs.photos)} captioned photos, {held_out} of them held out, are too few to "
            f"train on; at least {MIN_PAIRS} are needed."
        )
    refuse_equal_captions(pairs)
    output.mkdir(parents=True, exist_ok=True)  # before the long work, so that it fails early
    trainee = start_model(start)
    model = trainee.encoder.model
    if not ends_in_projections(model):
        raise TrainingError(
            f"{trainee.encoder.name} has no towers of timm and Hugging Face that end in a linear map, so its "
            "projections cannot be trained by themselves. Let more of a tower learn: --train-image 1"
        )
    outputs = TowerOutputs(without_projections(trainee.encoder), cache_folder() / "towers", device=device)
    photos = np.stack([
        outputs.of_photos(pairs, view, lambda count, view=view: watcher.on_photos(view, count))
        for view in range(views)
    ])  # (views, n, image width)
    texts = outputs.of_texts([text for texts in pairs.captions for text in texts])
    counts = np.array([len(texts) for texts in pairs.captions])
    classes = None
    # The classifier belongs to this image tower; fine-tuned, it still points where it pointed.
    if settings.prototype_share and trainee.config["model_cfg"]["vision_cfg"]["timm_model_name"] == IMAGE_TOWER:
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
    spent = None
    if private is None:
        projections = train(examples, settings, device=resolve_device(device), on_epoch=on_epoch)
    else:
        queries = torch.from_numpy(outputs.of_texts(generic_queries()))
        projections, spent = train_privately(
            examples, settings, private, on_epoch, queries=queries, device=resolve_device(device)
        )
    validation = {}
    if held_out:
        validation = _recall(
            projections, photos[0][apart], texts[_captions_of(apart, counts)], counts[apart]
        )
    outcome = Outcome(len(kept), int(counts[kept].sum()), held_out, epochs[-1], validation, spent)
    _put(projections, trainee)
    facts = {"software": f"crossmodal-retrieval {__version__}", "settings": asdict(settings), "views": views,
             **asdict(outcome)}
    if changes_only:
        builtin.write_trained(model.state_dict(), output / builtin.TRAINED_FILE.name)
        write_json(output / builtin.CONFIG_FILE.name, trainee.config)
    else:
        model_folder.write(output, trainee, model.state_dict(), facts)
    write_json(output / "training.json", facts)
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


def _put(projections: Projections, trainee: Trainee) -> None:
    """Into the model, whose shared space may have had other dimensions."""
    model = trainee.encoder.model
    model.visual.head.proj = projections.image
    model.text.proj = projections.text
    model.logit_scale.data = projections.logit_scale.data.clone()
    trainee.config["model_cfg"]["embed_dim"] = projections.image.out_features
