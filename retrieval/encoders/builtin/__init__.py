"""The built-in encoder: towers from installed packages, and what this project trained of them and on top.

trained.safetensors holds the projections as they are, and of the towers the change to what the package
has: in int8 with a scale for each channel (see `quantized`), since changes are small and their
rounding is smaller still.

MODEL_CARD.md beside this file says what it was trained on, how well it does, and its terms.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.tokenizer import HFTokenizer
from open_clip.transform import PreprocessCfg
from safetensors.torch import load_file, save_file

from retrieval.encoders.openclip import DualEncoder
from retrieval.encoders.quantized import SCALE, dequantize, quantize
from retrieval.encoders.towers import load_towers, text_tower_folder
from retrieval.errors import WeightsError

FOLDER = Path(__file__).parent
CONFIG_FILE = FOLDER / "open_clip_config.json"
TRAINED_FILE = FOLDER / "trained.safetensors"


def config() -> dict:
    """The model's open_clip configuration: {"model_cfg": ..., "preprocess_cfg": ...}."""
    return json.loads(CONFIG_FILE.read_text(encoding="utf-8"))


def load_model() -> DualEncoder:
    """Packaged towers with what was trained put over them. Raises WeightsError if a file is missing or altered."""
    loaded = load_towers_only("builtin", config())
    if not TRAINED_FILE.is_file():
        raise WeightsError(
            f"{TRAINED_FILE} is missing. Install again: pip install --force-reinstall --no-deps "
            "crossmodal-retrieval"
        )
    trained = load_file(TRAINED_FILE)
    state = loaded.model.state_dict()
    names = {name.removesuffix(SCALE) for name in trained}
    if not set(projection_names(loaded.model)) <= names <= set(state):
        raise WeightsError(f"{TRAINED_FILE} does not fit {CONFIG_FILE.name}: {list(trained)[:5]}")
    loaded.model.load_state_dict({
        name: state[name] + dequantize(trained[name], trained[name + SCALE]) if name + SCALE in trained else trained[name]
        for name in names
    }, strict=False)
    return loaded


def write_trained(state: dict[str, torch.Tensor], output: Path) -> None:
    """Write what of a model differs from the packaged towers, as it ships.

    state  of a model with this configuration, but for the dimensions of its shared space

    Raises WeightsError if it has other towers.
    """
    untrained = load_towers_only("towers", config()).model
    projections, towers = projection_names(untrained), untrained.state_dict()
    if state.keys() != towers.keys():
        raise WeightsError("This model has other towers than the packaged ones, so it cannot be written as a change of them.")
    trained = {}
    for name, tensor in state.items():
        if name not in projections and torch.equal(tensor, towers[name]):
            continue
        if name not in projections and tensor.ndim > 1:
            tensor, trained[name + SCALE] = quantize(tensor - towers[name])
        trained[name] = tensor.contiguous()
    save_file(trained, output)


def load_towers_only(name: str, config: dict) -> DualEncoder:
    """The model of `config` with packaged tower weights and untrained projections.

    For training, and for `load_model`; never given to users as it is.
    """
    model_cfg = deepcopy(config["model_cfg"])
    model_cfg.pop("custom_text", None)  # says that the class is CustomTextCLIP
    # The configuration names the text tower as the hub knows it; here it comes from a package.
    text_folder = text_tower_folder()
    model_cfg["text_cfg"].update(hf_model_name=str(text_folder), hf_model_pretrained=False)
    model_cfg["vision_cfg"].update(timm_model_pretrained=False)
    model = open_clip.CustomTextCLIP(**model_cfg)
    load_towers(model, text_folder)
    set_model_preprocess_cfg(
        model, {**asdict(PreprocessCfg()), **config["preprocess_cfg"], "size": model.visual.image_size}
    )
    context_length = model_cfg["text_cfg"]["context_length"]
    tokenize = HFTokenizer(str(text_folder), context_length=context_length)
    return DualEncoder(name, model.eval(), tokenize)


def projection_names(model: torch.nn.Module) -> list[str]:
    """Parameters that are trained here: the projections and the temperature."""
    towers = ("visual.trunk.", "text.transformer.")
    return [name for name in model.state_dict() if not name.startswith(towers)]
