"""The models of the encoder and ingestion suites, as this project loads them and as open_clip does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.kept import kept

BUILTIN = "builtin"
VIT_B_32 = "ViT-B-32"  # random weights: as fast as trained ones

CAPTIONS = tuple(
    f"{who} {what} {where}"
    for who in ("a dog", "two children in red coats", "an old man with a camera", "three boats")
    for what in ("waiting", "seen from far above", "beside a yellow bicycle and a wooden bench",
                 "in the rain")
    for where in ("at night", "on the beach", "in front of a temple among tall trees", "in snow")
)


def name_for_us(model: str, work: Path) -> str:
    """What `--model` would be given."""
    return model if model == BUILTIN else f"local-dir:{_folder(model, work)}"


def plain_open_clip(model: str, work: Path) -> tuple[Any, Any, Any]:
    """(model, preprocess, tokenize) in float32 on the GPU if there is one: open_clip by its manual."""
    import open_clip
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    if model == BUILTIN:
        from retrieval.encoders.builtin import load_model

        loaded = load_model()
        network, tokenize = loaded.model, loaded.tokenize
        preprocess = image_transform_v2(PreprocessCfg(**loaded.preprocessing), is_train=False)
    else:
        source = f"local-dir:{_folder(model, work)}"
        network, _, preprocess = open_clip.create_model_and_transforms(source)
        tokenize = open_clip.get_tokenizer(source)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return network.eval().to(device), preprocess, tokenize


def _folder(model: str, work: Path) -> Path:
    return kept(work / "models" / model, lambda folder: _write(model, folder))


def _write(model: str, folder: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir()
    config = {
        "model_cfg": open_clip.get_model_config(model),
        "preprocess_cfg": {"resize_mode": "shortest", "interpolation": "bicubic"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    weights = open_clip.CLIP(**config["model_cfg"]).state_dict()
    save_file(weights, folder / "open_clip_model.safetensors")
