"""What index a collection is to have, and how well it is to find: changed without reading an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from indexes import check_target
from retrieval.encoders import load_recorded_encoder
from retrieval.manifest import IndexChoice, IndexRecord, Manifest
from retrieval.reading import EncoderOnDemand
from retrieval.stored import StoredCollection
from retrieval.writing import opened_to_write

AUTO = "auto"


@dataclass(frozen=True)
class AskedIndex:
    """What is to change about the index; None leaves what is on record.

    factory        FAISS factory string, or "auto"
    memory         bytes that it may take
    target_recall  recall@10 of texts that it is tuned to, above 0, at most 1
    retune         think again about what to build and how to search it, though nothing changed
    """

    factory: str | None = None
    memory: int | None = None
    target_recall: float | None = None
    retune: bool = False

    @property
    def chooses(self) -> bool:
        """Whether an index, or room for one, is asked for: it has to fit, where an earlier choice gives way."""
        return self.factory is not None or self.memory is not None

    def else_as(self, choice: IndexChoice) -> AskedIndex:
        """What is not asked for here as it was asked for before."""
        return AskedIndex(
            self.factory or choice.factory or AUTO, self.memory or choice.memory,
            self.target_recall or choice.target_recall, self.retune,
        )

    def put_to(self, manifest: Manifest) -> Manifest:
        """The manifest with this on record; itself if nothing is asked for.

        Raises VectorIndexError on a recall out of range.
        """
        asked: dict[str, Any] = {"memory": self.memory, "target_recall": self.target_recall}
        asked = {name: value for name, value in asked.items() if value is not None}
        if self.target_recall is not None:
            check_target(self.target_recall)
        if self.factory is not None:
            asked["factory"] = None if self.factory == AUTO else self.factory
        if not asked:
            return manifest

        def chosen(record: IndexRecord) -> IndexRecord:
            return replace(record, choice=replace(record.wanted, **asked))

        return replace(
            manifest, index=chosen(manifest.index), captions=manifest.captions and chosen(manifest.captions)
        )


def retune(path: Path, asked: AskedIndex = AskedIndex(), **encoder_settings: Any) -> Manifest:
    """Build and tune a collection's indexes as asked, and anew where that is called for.

    encoder_settings  as load_encoder takes them; it is loaded if generic queries are to be encoded

    Returns what is then on record. Raises SpecError on an index that cannot be built,
    VectorIndexError on a recall out of range, CollectionError; the collection is then as it was.
    """
    with opened_to_write(path) as (manifest, catalog):
        manifest = asked.put_to(manifest)
        collection = StoredCollection(path, manifest, catalog)
        if asked.chooses:
            collection.indexed().check_fits(manifest.index.wanted, len(collection))
        encoder = EncoderOnDemand()
        encoder.load = lambda: load_recorded_encoder(manifest.encoder, str(path), **encoder_settings)
        collection.refresh_index(lambda texts: encoder().encode_texts(texts), retune=True)
        return collection.manifest
