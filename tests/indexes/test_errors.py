from __future__ import annotations

import pytest

from indexes import errors


@pytest.mark.parametrize("name", ["DimensionError", "VectorError", "SpecError", "IndexFileError"])
def test_each_error_is_a_vector_index_error(name: str) -> None:
    assert getattr(errors, name).__bases__ == (errors.VectorIndexError,)


def test_the_root_is_retrieval_error() -> None:
    assert errors.VectorIndexError.__bases__ == (errors.RetrievalError,)
    assert errors.RetrievalError.__bases__ == (Exception,)
