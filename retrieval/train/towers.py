"""Towers by name: image towers of timm, text towers of open_clip, of Hugging Face, and recurrent ones."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import open_clip
import timm
import torch
from open_clip.hf_configs import arch_dict
from open_clip.tokenizer import HFTokenizer

from retrieval.encoders import builtin, hub, recurrent, towers
from retrieval.encoders.auto import BUILTIN
from retrieval.encoders.names import nearest
from retrieval.errors import TrainingError, UnknownModelError, WeightsError

RANDOM = "none"
CONTEXT_LENGTH = 77
# Large enough for a hundred thousand captions, small enough for two CPU cores.
_TRANSFORMER = {"width": 256, "heads": 4, "layers": 6}
_BY_NAME = ("gru", "lstm", "transformer", BUILTIN)
_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Tower:
    """How open_clip's configuration describes it, and how it gets its weights.

    config    "vision_cfg" or "text_cfg", as a model folder has it
    building  what is set otherwise while the model is built
    load      puts weights into the built tower that building did not
    origin    a sentence: what it is and where its weights come from
    """

    config: dict[str, Any]
    origin: str
    building: dict[str, Any] = field(default_factory=dict)
    load: Callable[[torch.nn.Module], None] = lambda tower: None
    preprocessing: dict[str, Any] = field(default_factory=dict)  # of image towers
    tokenizer: Callable[[], Callable[[list[str]], torch.Tensor]] | None = None  # of text towers


def image_tower(name: str, size: int | None = None) -> Tower:
    """See `retrieval.train.starting.Start`. size: pixels of a side; None: the model's own.

    Raises UnknownModelError with the nearest names, WeightsError, TrainingError for a size it cannot take.
    """
    if name == BUILTIN:
        return _builtin_image_tower(size)
    architecture, _, weights = name.partition(":")
    known = _timm_facts(architecture)
    own = known.input_size[-1]
    if size and size != own and known.fixed_input_size:
        raise TrainingError(f"{architecture} takes images of {own} pixels only. Leave --image-size out.")
    # Where a hidden layer lies before the classifier, only the classifier can become the projection:
    # open_clip's own linear one would take its width to be that of the layer's input.
    head = {"timm_pool": "avg", "timm_proj": ""} if _has_hidden_layer(architecture) else {
        "timm_pool": "", "timm_proj": "linear"}
    config = {
        "image_size": size or own, "timm_model_name": architecture, "timm_model_pretrained": False, **head,
    }
    preprocessing = {
        "mean": list(known.mean), "std": list(known.std),
        "interpolation": known.interpolation if known.interpolation in ("bilinear", "bicubic") else "bicubic",
        "resize_mode": "squash" if known.crop_mode == "squash" else "shortest",
    }
    if weights == RANDOM:
        return Tower(config, f"Image tower: {architecture} of timm, random weights.", preprocessing=preprocessing)
    if weights:
        return Tower(
            config, f"Image tower: {architecture} of timm, weights from the file {Path(weights).name}.",
            load=_loader(architecture, Path(weights)), preprocessing=preprocessing,
        )
    _check_on_hub(
        architecture, known.hf_hub_id,
        f"or give a file of them (--image-tower {architecture}:FILE), or use random ones ({architecture}:none)",
    )
    return Tower(
        config,
        f"Image tower: {architecture} of timm, weights {known.hf_hub_id} ({known.license or 'see there for terms'}).",
        building={"timm_model_pretrained": True}, preprocessing=preprocessing,
    )


def text_tower(name: str) -> Tower:
    """See `retrieval.train.starting.Start`. Raises UnknownModelError with the nearest names, WeightsError."""
    if name in recurrent.CELLS or name == "transformer":
        sizes = {"context_length": CONTEXT_LENGTH, "vocab_size": open_clip.SimpleTokenizer().vocab_size}
        config = recurrent.text_config(recurrent.Recurrence(name), **sizes) if name in recurrent.CELLS else {
            **sizes, **_TRANSFORMER}
        return Tower(
            config, f"Text tower: {name}, random weights.",
            tokenizer=lambda: open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH),
        )
    if name == BUILTIN:
        folder = towers.text_tower_folder()
        config = builtin.config()["model_cfg"]["text_cfg"]
        return Tower(
            {**config, "hf_model_pretrained": False}, "Text tower: all-MiniLM-L6-v2, its own weights (Apache-2.0).",
            building={"hf_model_name": str(folder)},
            load=lambda text: towers.load_text_tower(text.transformer, folder),
            tokenizer=lambda: HFTokenizer(str(folder), context_length=config["context_length"]),
        )
    return _hugging_face(name)


def _builtin_image_tower(size: int | None) -> Tower:
    config = builtin.config()
    vision = config["model_cfg"]["vision_cfg"]
    return Tower(
        {**vision, "image_size": size or vision["image_size"]},
        "Image tower: EfficientNet-Lite0, ImageNet weights (Apache-2.0).",
        load=lambda visual: towers.load_image_tower(visual.trunk), preprocessing=config["preprocess_cfg"],
    )


def _timm_facts(architecture: str) -> timm.models.PretrainedCfg:
    if not timm.is_model(architecture):
        raise UnknownModelError(
            f"There is no image tower named {architecture!r}. {nearest(architecture, [BUILTIN, *timm.list_models()])}"
            "It is builtin, or a model of timm, such as vgg16, resnet50 or vit_small_patch16_224."
        )
    try:
        return timm.models.get_pretrained_cfg(architecture) or timm.models.PretrainedCfg()
    except RuntimeError:  # the part behind the point
        model = architecture.partition(".")[0]
        raise UnknownModelError(
            f"timm has no weights named {architecture}. Known: {', '.join(timm.list_pretrained(f'{model}.*')) or 'none'}."
        ) from None


def _has_hidden_layer(architecture: str) -> bool:
    try:
        with torch.device("meta"):  # costs no time, but not every model can be made there
            trunk = timm.create_model(architecture)
    except Exception:
        trunk = timm.create_model(architecture)
    return getattr(trunk, "head_hidden_size", trunk.num_features) != trunk.num_features


def _loader(architecture: str, file: Path) -> Callable[[torch.nn.Module], None]:
    if not file.is_file():
        raise WeightsError(f"{file}, to take the weights of {architecture} from, does not exist.")

    def load(visual: torch.nn.Module) -> None:
        stored = _classifier_of(architecture, file).state_dict()
        own = visual.trunk.state_dict()
        # What the trunk lacks is the classifier; one that it has instead of it is our projection.
        fitting = {name: stored[name] for name in own if name in stored and stored[name].shape == own[name].shape}
        visual.trunk.load_state_dict({**own, **fitting})

    return load


def _classifier_of(architecture: str, file: Path) -> torch.nn.Module:
    """timm's model with the file's weights, every one of them in its place."""
    try:
        stored = timm.models.load_state_dict(str(file))
        classifier = stored.get(f"{_timm_facts(architecture).classifier}.weight")
        attempts = [1000, 0] if classifier is None else [len(classifier)]  # of unknown names, or without one
        for classes in attempts:
            try:
                return timm.create_model(
                    architecture, pretrained=True, num_classes=classes,
                    pretrained_cfg_overlay={"file": str(file), "num_classes": classes},
                )
            except RuntimeError:
                if classes == attempts[-1]:
                    raise
    except Exception as error:  # torch, safetensors and timm raise as they please
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{file} does not hold the weights of {architecture}: {reason[:200]}") from error


def _hugging_face(name: str) -> Tower:
    from transformers import AutoConfig

    folder = Path(name)
    if folder.is_dir():
        if not any((folder / file).is_file() for file in _WEIGHT_FILES):
            raise WeightsError(f"{name} holds no weights of a text tower ({' or '.join(_WEIGHT_FILES)}).")
        name = str(folder.absolute())
    else:
        _check_text_tower(name)
    try:
        found = AutoConfig.from_pretrained(name)
    except Exception as error:
        raise TrainingError(f"The configuration of {name} cannot be read: {str(error).splitlines()[0][:200]}") from error
    if found.model_type not in arch_dict:
        raise TrainingError(
            f"open_clip makes no text tower of {name}, a {found.model_type} model. Choose one of type "
            f"{', '.join(arch_dict)}."
        )
    length = min(CONTEXT_LENGTH, getattr(found, "max_position_embeddings", CONTEXT_LENGTH))
    return Tower(
        {
            "context_length": length, "hf_model_name": name, "hf_tokenizer_name": name, "hf_model_pretrained": False,
            "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler",
        },
        f"Text tower: {folder.name if folder.is_dir() else name}, its own weights, whose terms hold for this model too.",
        building={"hf_model_pretrained": True},
        tokenizer=lambda: HFTokenizer(name, context_length=length),
    )


def _check_text_tower(name: str) -> None:
    """Raises UnknownModelError for a name that is no tower's, WeightsError for one whose weights cannot be had."""
    try:
        if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            _check_on_hub(name, name, "or give a folder with them, or use --text-tower builtin")
            return
    except WeightsError:
        if "/" in name:
            raise
    raise UnknownModelError(
        f"There is no text tower named {name!r} here. {nearest(name, _BY_NAME)}It is one of {', '.join(_BY_NAME)}, "
        "or a Hugging Face model: its name on the hub, or a folder."
    ) from None


def _check_on_hub(name: str, repository: str | None, otherwise: str) -> None:
    """Raises WeightsError unless the weights are on this machine or can be fetched."""
    if not repository:
        raise WeightsError(f"timm publishes no weights for {name}; {otherwise.removeprefix('or ')}.")
    weights = hub.find_weights(repository, _WEIGHT_FILES)
    if not (weights.cached or weights.reachable):
        reason = "HF_HUB_OFFLINE is set" if hub.offline_by_choice() else (
            f"the model hub cannot be reached, or has no {repository} for you")
        raise WeightsError(f"The weights of {name} are not on this machine and {reason}. Go online, {otherwise}.")
