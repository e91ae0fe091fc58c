"""Collections to measure with: of generated photos, or made up, of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.kept import kept, remove

if TYPE_CHECKING:
    from indexes import IndexSpec
    from retrieval.manifest import EncoderRecord

DIM = 512
_BLOCK = 50_000


def indexed(folder: Path, path: Path, model: str) -> Path:
    """The collection of the folder's photos at `path`, made or brought up to date by the code at hand."""
    from filelock import FileLock

    from retrieval.errors import RetrievalError
    from retrieval.maintain import Options, index_sources

    options = Options(model=model)
    with FileLock(f"{path}.lock"):  # contenders get ready at the same time
        try:
            index_sources([folder], path, options)
        except RetrievalError:  # left by another version of the code
            remove(path)
            index_sources([folder], path, options)
    return path


def made_up(work: Path, n: int) -> Path:
    """A collection of n random unit vectors of 512 dimensions; ids are row numbers, files are nowhere."""
    from retrieval.manifest import SCHEMA_VERSION

    name = f"made-up-{n}-sketched-schema-{SCHEMA_VERSION}.collection"
    return kept(work / name, lambda folder: make_up(folder, n))


def random_units(count: int, seed: int, dim: int = DIM):
    """(count, dim) float32 unit rows."""
    import numpy as np

    rows = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mixtures(count: int, like: Any, seed: int, noise: float = 0.4):
    """Vectors about as hard to search as those of an encoder's photos. (count, d) float32 unit rows

    like   (m, d) unit rows, of its texts: a row is a mixture of two of them
    noise  length of what else is in a row, where the mixture has length 1. With 0.4, mixtures of the
           built-in encoder's captions leave as many rows in question as Flickr8k's photos do

    Uniform random rows are all alike to a text, which says nothing of what a search may leave out.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    first, second = (np.asarray(like, np.float32)[random.integers(0, len(like), count)] for _ in range(2))
    share = random.random((count, 1), np.float32)
    rows = share * first + (1 - share) * second
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows += noise * random_units(count, seed, rows.shape[1])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made_up_path(row: int) -> str:
    return f"/photos/{row:07}.jpg"


def make_up(
    folder: Path, n: int, encoder: EncoderRecord | None = None, spec: IndexSpec | None = None, like: Any = None,
    encode: Callable[[list[str]], Any] | None = None,
) -> None:
    """Write such a collection, as if `encoder` had made its vectors, to a folder that is not there yet.

    spec    of its index; None is "Flat"
    like    (m, d): vectors are `mixtures` of these, instead of random
    encode  makes vectors of the texts that the sketch of a "Flat" one is chosen by
    """
    from indexes import IndexSpec
    from retrieval.catalog import Catalog
    from retrieval.documents import Document, FileState
    from retrieval.manifest import EncoderRecord, IndexChoice, IndexRecord, Manifest
    from retrieval.stored import StoredCollection
    from retrieval.vectors import VECTORS_FOLDER, VectorStore

    encoder = encoder or EncoderRecord("made up", DIM, "")
    folder.mkdir(parents=True)
    store = VectorStore(folder / VECTORS_FOLDER, encoder.dim, 0)
    with Catalog.create(folder) as catalog:
        for start in range(0, n, _BLOCK):
            count = min(_BLOCK, n - start)
            rows = store.append(
                random_units(count, start, encoder.dim) if like is None else mixtures(count, like, start)
            )
            catalog.commit(
                [Document(FileState(made_up_path(row), 1, 1), str(row), f"{row:032x}") for row in rows],
                rows,
            )
            store.n += len(rows)
        # "Flat" unless said otherwise, whatever their number would suggest.
        spec = spec or IndexSpec()
        record = IndexRecord(spec, choice=IndexChoice(spec.factory))
        encode = encode if spec.factory == "Flat" else None  # others would be tuned
        StoredCollection(folder, Manifest(encoder, record), catalog).refresh_index(encode)
