"""Errors of the whole distribution start here; this package sits lowest, so the root does too.

    RetrievalError
    └── VectorIndexError
        ├── DimensionError      vectors and index disagree on d
        ├── VectorError         wrong dtype or shape, non-finite, or not unit length
        ├── SpecError           a factory string or search parameter FAISS does not know
        └── IndexFileError      a missing, truncated, foreign or newer index file

Every message says what is wrong, where, and what to do about it.
"""


class RetrievalError(Exception):
    """Root of every error raised on purpose by `indexes` and `retrieval`."""


class VectorIndexError(RetrievalError):
    """Something about vectors or an index over them."""


class DimensionError(VectorIndexError):
    """Vectors and index disagree on the number of dimensions."""


class VectorError(VectorIndexError):
    """Vectors of a wrong dtype or shape, with non-finite values, or not of unit length."""


class SpecError(VectorIndexError):
    """A FAISS factory string or a search parameter that cannot be used."""


class IndexFileError(VectorIndexError):
    """An index file that is missing, truncated, not ours, or from a newer version."""
