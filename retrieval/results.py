"""What a search found: a list of hits that shows itself well, in a notebook with thumbnails."""

from __future__ import annotations

from typing import SupportsIndex, overload

from retrieval.contact_sheet import contact_sheet
from retrieval.corpus import addresses
from retrieval.types import Hit


class Results(list[Hit]):
    """Hits, best first, query after query.

        results = Collection.open("photos.collection").search("a dog", k=5)
        results[0].path, results[0].score

    As the last line of a notebook's cell they are a contact sheet.
    """

    @overload
    def __getitem__(self, at: SupportsIndex) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> Results: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Hit | Results:
        found = super().__getitem__(at)
        return Results(found) if isinstance(at, slice) else found

    def by_query(self) -> list[tuple[str, list[Hit]]]:
        """Each query and its hits, in order; one that was asked twice is there twice."""
        found: list[tuple[str, list[Hit]]] = []
        for hit in self:
            if not found or hit.rank == 1 or hit.query != found[-1][0]:
                found.append((hit.query, []))
            found[-1][1].append(hit)
        return found

    def __repr__(self) -> str:
        """A line for each query and each hit."""
        lines = []
        for query, hits in self.by_query():
            lines.append(query)
            lines += (f"{hit.rank:4}  {hit.score:.4f}  {_name(hit)}" for hit in hits)
        return "\n".join(lines) or "no results"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return contact_sheet(self.by_query())


def _name(hit: Hit) -> str:
    where = addresses.in_words(hit.path)
    return where if hit.caption is None else f"{hit.caption}  {where}"
