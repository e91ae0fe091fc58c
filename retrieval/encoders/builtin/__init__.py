"""The built-in encoder: towers from installed packages, projections trained by this project.

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
from safetensors.torch import load_file

from retrieval.encoders.openclip import DualEncoder
from retrieval.encoders.towers import load_towers, text_tower_folder
from retrieval.errors import WeightsError

FOLDER = Path(__file__).parent
CONFIG_FILE = FOLDER / "open_clip_config.json"
PROJECTIONS_FILE = FOLDER / "projections.safetensors"


def config() -> dict:
    """The model's open_clip configuration: {"model_cfg": ..., "preprocess_cfg": ...}."""
    return json.loads(CONFIG_FILE.read_text(encoding="utf-8"))


def load_model() -> DualEncoder:
    """Towers and trained projections. Raises WeightsError if a file is missing or altered."""
    loaded = load_towers_only("builtin", config())
    if not PROJECTIONS_FILE.is_file():
        raise WeightsError(
            f"{PROJECTIONS_FILE} is missing. Install again: pip install --force-reinstall --no-deps "
            "crossmodal-retrieval"
        )
    projections = load_file(PROJECTIONS_FILE)
    if sorted(projections) != sorted(projection_names(loaded.model)):
        raise WeightsError(f"{PROJECTIONS_FILE} does not fit {CONFIG_FILE.name}: {list(projections)}")
    loaded.model.load_state_dict(projections, strict=False)  # the towers are in place already
    return loaded


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
