"""pyarrow, which reads and writes Parquet, or a sentence that says how to get it."""

from __future__ import annotations

from types import ModuleType

from retrieval.errors import MissingPackageError


def require_parquet() -> tuple[ModuleType, ModuleType]:
    """(pyarrow, pyarrow.parquet). Raises MissingPackageError."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingPackageError(
            "Parquet needs pyarrow, which is not installed. Install it: "
            "pip install 'crossmodal-retrieval[parquet]'"
        ) from error
    return pyarrow, pyarrow.parquet
