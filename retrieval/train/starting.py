"""What training starts from: a model, an architecture without weights, or an image and a text tower."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from typing import Any

import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg

from retrieval.encoders import builtin, names, recurrent
from retrieval.encoders.auto import AUTO, BUILTIN, choose
from retrieval.encoders.openclip import DualEncoder
from retrieval.errors import TrainingError, UnknownModelError
from retrieval.train.towers import image_tower, text_tower

DIM = 512


@dataclass(frozen=True)
class Start:
    """Either a model, or an architecture, or two towers.

    model         what `--model` takes, with its weights
    architecture  a name of open_clip's registry; random weights
    image_tower   "builtin", or a model of timm: NAME with the hub's weights, NAME:none with random ones,
                  NAME:FILE with those of a file
    text_tower    "gru", "lstm" or "transformer" with random weights, "builtin", or a Hugging Face model:
                  its name on the hub, or a folder
    dim           of the shared space; None: the architecture's, or 512
    image_size    pixels of a side; None: the image tower's own
    """

    model: str | None = None
    architecture: str | None = None
    image_tower: str | None = None
    text_tower: str | None = None
    dim: int | None = None
    image_size: int | None = None


@dataclass(frozen=True)
class Trainee:
    """A model to train, and what a model folder says of it.

    encoder   every parameter of its model can still be trained
    config    open_clip_config.json
    origins   where the weights come from, and their terms: a sentence for each part
    """

    encoder: DualEncoder
    config: dict[str, Any]
    origins: list[str]

    @property
    def plain_open_clip(self) -> bool:
        """Whether open_clip alone can load its folder."""
        return not recurrent.is_recurrent(self.config)


def start_model(start: Start) -> Trainee:
    """Load or make it, on the CPU, in float32. Random weights are those of torch's seed.

    Raises TrainingError if `start` does not say what to start from, or a tower cannot be had so;
    UnknownModelError, WeightsError or EncoderError if it cannot be loaded.
    """
    chosen = [one.name for one in fields(start) if getattr(start, one.name) is not None]
    ways = {"model", "architecture", "image_tower", "text_tower"}.intersection(chosen)
    if ways == {"model"}:
        if len(chosen) > 1:
            raise TrainingError(
                f"{start.model} has its own {' and '.join(_option(one) for one in chosen if one != 'model')}. "
                "Leave that out, or start from --architecture or towers."
            )
        return _from_model(start.model)
    if ways == {"architecture"}:
        return _from_architecture(start)
    if ways == {"image_tower", "text_tower"}:
        return _from_towers(start)
    if ways in ({"image_tower"}, {"text_tower"}):
        missing, = {"image_tower", "text_tower"} - ways
        raise TrainingError(f"One tower alone learns nothing: {_option(missing)} is missing.")
    given = f"not {' and '.join(_option(one) for one in sorted(ways))} together" if ways else "nothing is given"
    raise TrainingError(
        f"Say what to start from: --model, or --architecture, or --image-tower with --text-tower; {given}."
    )


def _from_model(name: str) -> Trainee:
    if name == AUTO:
        name = choose().name
    if name == BUILTIN:
        return Trainee(builtin.load_model(), builtin.config(), [
            "Started from the built-in encoder, which was trained on Flickr8k: for non-commercial research and "
            "education. `--image-tower builtin --text-tower builtin` starts from its towers as they were published."
        ])
    source = names.resolve(name)
    encoder = source.load()
    architecture, _, weights = source.name.partition("/")
    of_hub = source.name.startswith(("local-dir:", "hf-hub:"))
    model_cfg = open_clip.get_model_config(source.name if of_hub else architecture)
    if not of_hub and open_clip.get_pretrained_cfg(architecture, weights).get("quick_gelu"):
        model_cfg["quick_gelu"] = True
    config = {"model_cfg": model_cfg, "preprocess_cfg": dict(encoder.preprocessing)}
    return Trainee(encoder, config, [f"Started from {source.name}, whose terms hold for this model too."])


def _from_architecture(start: Start) -> Trainee:
    name = start.architecture
    if name not in names.architectures():
        raise UnknownModelError(
            f"There is no architecture named {name!r}. {names.nearest(name, names.architectures())}"
            "`retrieval models` lists open_clip's, in front of the stroke."
        )
    model_cfg = open_clip.get_model_config(name)
    if "multimodal_cfg" in model_cfg:
        raise TrainingError(f"{name} learns to write captions too, which this training does not teach. Choose another.")
    if "hf_model_name" in model_cfg["text_cfg"]:
        raise TrainingError(
            f"{name} has a text tower of Hugging Face, which is worth its weights alone. Start from towers: "
            f"--text-tower {model_cfg['text_cfg']['hf_model_name']}"
        )
    if start.image_size and "timm_model_name" in model_cfg["vision_cfg"]:
        raise TrainingError(f"{name} has an image tower of timm. Start from towers to choose --image-size.")
    if start.dim:
        model_cfg["embed_dim"] = start.dim
    if start.image_size:
        model_cfg["vision_cfg"]["image_size"] = start.image_size
    model = _built(name, model_cfg, {})
    config = {"model_cfg": model_cfg, "preprocess_cfg": dict(model.visual.preprocess_cfg)}
    return Trainee(DualEncoder(name, model, open_clip.get_tokenizer(name)), config, [f"{name}: random weights."])


def _from_towers(start: Start) -> Trainee:
    image = image_tower(start.image_tower, start.image_size)
    text = text_tower(start.text_tower)
    name = f"{start.image_tower} + {start.text_tower}"
    model_cfg = {
        "embed_dim": start.dim or DIM, "custom_text": True, "vision_cfg": image.config, "text_cfg": text.config,
    }
    building = {
        **model_cfg, "vision_cfg": {**image.config, **image.building}, "text_cfg": {**text.config, **text.building},
    }
    model = _built(name, building, image.preprocessing)
    image.load(model.visual)
    text.load(model.text)
    config = {"model_cfg": model_cfg, "preprocess_cfg": dict(model.visual.preprocess_cfg)}
    return Trainee(DualEncoder(name, model, text.tokenizer()), config, [image.origin, text.origin])


def _built(name: str, model_cfg: dict[str, Any], preprocessing: dict[str, Any]) -> torch.nn.Module:
    """Raises TrainingError where open_clip, timm or transformers cannot build it, whatever they raise."""
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocessing}
    try:
        if recurrent.is_recurrent(config):
            return recurrent.build(config)
        model_cfg = deepcopy(model_cfg)
        custom = model_cfg.pop("custom_text", False)
        model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**model_cfg)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(f"{name} cannot be made: {reason[:300]}") from error
    set_model_preprocess_cfg(model, {**asdict(PreprocessCfg()), **preprocessing, "size": model.visual.image_size})
    return model


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"
