"""Cross-modal image-text retrieval: index images, search them by text or image, measure recall.

Names are loaded on first use, so importing this package imports neither torch nor faiss;
__init__.pyi tells type checkers what they are.
"""

from importlib import import_module

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
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # takes longer than all else here

    try:
        return version("crossmodal-retrieval")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
