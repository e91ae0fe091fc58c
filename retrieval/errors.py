"""Errors of the retrieval layer. The root lives in `indexes.errors`, the lowest room.

    RetrievalError
    ├── VectorIndexError ...    see indexes.errors
    ├── ImageError              an image that cannot be read
    ├── MissingPackageError     an optional package that is not installed
    ├── EncoderError
    │   ├── UnknownModelError   no model of that name
    │   ├── WeightsError        a known model whose weights are not to be had
    │   └── EncoderMismatchError  a collection made by another encoder
    ├── CorpusError             folders and files to index
    │   ├── ClassesError        a folder-per-class data set that cannot be used
    │   └── DatasetError        a benchmark data set that is not there, or laid out otherwise
    ├── CaptionsError           a captions file that cannot be used
    ├── CollectionError
    │   ├── CollectionNotFoundError
    │   └── SchemaError         a collection written by a newer version
    ├── QueryError              a query that cannot be asked
    ├── RerankError             results that cannot be looked at again
    ├── EvaluationError
    │   ├── PublishedError      no published numbers for a model or data set
    │   └── ExportError         results that cannot be written
    ├── ExchangeError           embeddings that cannot be brought in or taken out
    ├── ServeError              a server that cannot be started
    └── TrainingError           training that cannot start or go on
        └── DivergedError       a loss that is no longer a number

The command line turns any of them into one sentence on stderr and exit status 1.
"""

from indexes.errors import RetrievalError

# Log level between INFO and WARNING: what a user should see once, on a terminal or not.
NOTICE = 25


class ImageError(RetrievalError):
    """An image that cannot be read; the message is the reason alone, callers add the path."""


class MissingPackageError(RetrievalError):
    """An optional package that is not installed; the message says how to install it."""


class EncoderError(RetrievalError):
    """An encoder that cannot be loaded or used."""


class UnknownModelError(EncoderError):
    """No model of that name; the message offers the nearest names."""


class WeightsError(EncoderError):
    """A known model whose weights are not on this machine and cannot be fetched."""


class EncoderMismatchError(EncoderError):
    """A collection made by an encoder with another fingerprint or dimension."""


class CorpusError(RetrievalError):
    """A folder or file to index that is missing, unreadable, or holds no images."""


class DatasetError(CorpusError):
    """A benchmark data set of unknown name, not to be found, or laid out otherwise."""


class ClassesError(CorpusError):
    """A data set with too few class folders, or a file of class names or templates to mend."""


class CaptionsError(RetrievalError):
    """A captions file of unknown layout, without the needed columns, or matching no image."""


class CollectionError(RetrievalError):
    """A collection that cannot be opened or written."""


class CollectionNotFoundError(CollectionError):
    """No collection at that path."""


class SchemaError(CollectionError):
    """A collection written by a newer version of this software."""


class QueryError(RetrievalError):
    """A query that cannot be asked: empty, or with a k out of range."""


class RerankError(RetrievalError):
    """A cross-encoder that cannot be used, or kept vectors that cannot be read or written."""


class EvaluationError(RetrievalError):
    """Measured results that cannot be used as asked."""


class PublishedError(EvaluationError):
    """No published numbers for a model or data set; the message names what there is."""


class ExportError(EvaluationError):
    """A file or folder that results cannot be written to, or an image that cannot be written with them."""


class ExchangeError(RetrievalError):
    """Embeddings of another program that cannot be read or trusted, or a place they cannot go to."""


class ServeError(RetrievalError):
    """An address that cannot be listened on, or a server that is not installed."""


class TrainingError(RetrievalError):
    """Training that cannot start or go on."""


class DivergedError(TrainingError):
    """A loss or gradient that is no longer a number."""


def reason_of(error: BaseException) -> str:
    """What another library's error says, on one line."""
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__
