"""Cross-modal image-text retrieval: index images, search them by text or image, measure recall.

Names are loaded on first use, so importing this package imports neither torch nor faiss;
__init__.pyi tells type checkers what they are.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("crossmodal-retrieval")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_EXPORTS = {
    "Collection": "retrieval.collection",
    "Encoder": "retrieval.types",
    "Hit": "retrieval.types",
    "Results": "retrieval.results",
    "load_encoder": "retrieval.encoders",
    "RetrievalError": "retrieval.errors",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
