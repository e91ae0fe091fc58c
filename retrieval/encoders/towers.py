"""Tower weights from installed packages, put into models, so that no model hub is needed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from retrieval.encoders.packages import image_tower_file, text_tower_file

IMAGE_TOWER = "tf_efficientnet_lite0"  # its name in timm


def text_tower_folder() -> Path:
    """The folder with the text tower's weights, configuration and tokenizer."""
    return text_tower_file().parent


def load_towers(model: torch.nn.Module, text_folder: Path) -> None:
    """Put the packaged weights into an open_clip model with these two towers.

    text_folder  as `text_tower_folder` returned it, hence verified

    Raises WeightsError if a package is missing or its file is not the one that was published.
    """
    load_image_tower(model.visual.trunk)
    load_text_tower(model.text.transformer, text_folder)


def load_image_tower(trunk: torch.nn.Module) -> None:
    """Into timm's tf_efficientnet_lite0 without classifier. Raises WeightsError as `load_towers` does."""
    # The package has the same tensors in the same order under another implementation's names;
    # its last two are the ImageNet classifier, which the trunk has dropped.
    stored = list(_image_package().values())[:-2]
    trunk.load_state_dict(dict(zip(trunk.state_dict(), stored, strict=True)))


def load_text_tower(transformer: torch.nn.Module, text_folder: Path) -> None:
    """Into transformers' BERT without pooler; text_folder as for `load_towers`."""
    stored = load_file(text_folder / "model.safetensors")
    # What it has beyond this (a pooler, position numbers) the tower does not use.
    transformer.load_state_dict({name: stored[name] for name in transformer.state_dict()})


def load_classifier() -> tuple[torch.Tensor, torch.Tensor]:
    """The image tower's ImageNet classifier: weights (1000, width) and biases (1000,)."""
    weight, bias = list(_image_package().values())[-2:]
    return weight.float(), bias.float()


def _image_package() -> dict[str, torch.Tensor]:
    return torch.load(image_tower_file(), map_location="cpu", weights_only=True)
