"""The manifest: what a collection is, in one small JSON file that a person can read.

It changes rarely: at creation, and when the index is rebuilt. What changes with every
batch (documents, vector rows) lives in the catalogue.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import retrieval
from indexes import IndexSpec
from indexes.errors import SpecError
from retrieval.errors import CollectionError, CollectionNotFoundError, SchemaError
from retrieval.files import write_json

# 1 knows no rewritten vectors, 2 no vectors of captions, 3 no tuned indexes; writing makes it the newest.
SCHEMA_VERSION = 4
FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class EncoderRecord:
    """The encoder that made a collection's vectors; see `retrieval.types.Encoder`."""

    name: str
    dim: int
    fingerprint: str


@dataclass(frozen=True)
class IndexChoice:
    """What index was asked for.

    factory        FAISS factory string; None has it chosen by the number of vectors ("auto")
    memory         bytes that it may take; None: what is free
    target_recall  recall@10 of text queries against exact search that it is tuned to
    """

    factory: str | None = None
    memory: int | None = None
    target_recall: float = 0.95


@dataclass(frozen=True)
class TuningRecord:
    """What the settings of the spec were chosen for, and what they reach; recalls are at 10.

    reached              whether the target was, by the queries it was chosen by
    text, image          recall of queries that took no part in choosing: value, low and high end
                         of the 95 % interval; image queries are images of the collection
    p50_ms               of one text query searched alone
    queries_per_second   of text queries in one batch
    queries              how many text queries there were, a third of them to measure with
    texts                where these came from
    """

    target: float
    reached: bool
    text: tuple[float, float, float]
    image: tuple[float, float, float] | None
    p50_ms: float
    queries_per_second: float
    queries: int
    texts: str


@dataclass(frozen=True)
class IndexRecord:
    """An index beside the vectors.

    generation    the catalogue's generation when this was written, and its file if the spec needs
                  one; any other value in the catalogue means that the index is out of date
    rows          vectors to be found; the file may hold more, which are dead
    choice        None where nothing was asked for
    trained_rows  how many vectors there were when it was built
    bytes_per_vector  of its file, then; 0 without one
    """

    spec: IndexSpec = field(default_factory=IndexSpec)
    generation: int = 0
    rows: int = 0
    choice: IndexChoice | None = None
    trained_rows: int = 0
    bytes_per_vector: float = 0.0
    tuning: TuningRecord | None = None

    @property
    def wanted(self) -> IndexChoice:
        """What was asked for; by older versions, an index other than "Flat" in so many words."""
        return self.choice or IndexChoice(None if self.spec.factory == "Flat" else self.spec.factory)


@dataclass(frozen=True)
class Manifest:
    """index: of the images. captions: the index of their captions; None while these are not embedded.

    fuse  weights of "image" and "caption" where images are searched fused with what is said of them
    """

    encoder: EncoderRecord
    index: IndexRecord = field(default_factory=IndexRecord)
    captions: IndexRecord | None = None
    fuse: dict[str, float] | None = None
    counts: dict[str, int] = field(default_factory=dict)  # as of the last complete run
    created_at: str = field(
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )
    software: str = field(default_factory=lambda: f"crossmodal-retrieval {retrieval.__version__}")
    schema_version: int = SCHEMA_VERSION

    def save(self, collection: Path) -> None:
        """Write atomically into the collection folder. Raises OSError."""
        content = asdict(self)
        content["index"]["spec"] = self.index.spec.to_dict()
        if self.captions:
            content["captions"]["spec"] = self.captions.spec.to_dict()
        if self.fuse is None:
            del content["fuse"]  # which older software would not understand
        write_json(collection / FILE_NAME, content)

    @classmethod
    def load(cls, collection: Path) -> Manifest:
        """Read the manifest of a collection folder.

        Raises CollectionNotFoundError without one, SchemaError for a newer one, and
        CollectionError for one that is damaged.
        """
        path = collection / FILE_NAME
        if collection.is_file():
            raise CollectionNotFoundError(f"{collection} is a file; a collection is a folder.")
        if not collection.is_dir():
            raise CollectionNotFoundError(
                f"There is no collection at {collection}. "
                f"Make one with: retrieval index SOURCE -o {collection}"
            )
        if not path.is_file():
            raise CollectionNotFoundError(
                f"{collection} is a folder but not a collection (it has no {FILE_NAME}). "
                f"If it holds your images, make one with: retrieval index {collection}"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            schema = content.pop("schema_version")
            if isinstance(schema, int) and schema > SCHEMA_VERSION:
                raise SchemaError(
                    f"{collection} was written by a newer version ({content.get('software')}, "
                    f"schema {schema}; this one reads up to {SCHEMA_VERSION}). Please upgrade: "
                    "pip install --upgrade crossmodal-retrieval"
                )
            captions = content.pop("captions", None)
            return cls(
                encoder=EncoderRecord(**content.pop("encoder")),
                index=_index_record(content.pop("index")),
                captions=None if captions is None else _index_record(captions),
                schema_version=schema,
                **content,
            )
        except (ValueError, KeyError, TypeError, AttributeError, SpecError) as error:
            raise CollectionError(
                f"{path} is damaged ({error}). Rebuild the collection: retrieval index --rebuild "
                f"SOURCE -o {collection}"
            ) from error


def _index_record(content: dict) -> IndexRecord:
    spec, choice, tuning = (content.pop(name, None) for name in ("spec", "choice", "tuning"))
    return IndexRecord(
        spec=IndexSpec.from_dict(spec),
        choice=None if choice is None else IndexChoice(**choice),
        tuning=None if tuning is None else TuningRecord(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in tuning.items()}
        ),
        **content,
    )
