"""Tables of images and their captions as a source: CSV, TSV, JSON, JSON lines, Parquet.

Text is read in every layout that `layouts` knows. Images are paths, or links as in LAION's Parquet.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.corpus import listing
from retrieval.corpus.found import Scan
from retrieval.corpus.layouts import CAPTION_COLUMNS, IMAGE_COLUMNS, SPLIT_COLUMNS, Columns, no_split, rows_in
from retrieval.corpus.parquet import require_parquet
from retrieval.corpus.records import missing_column, read_text
from retrieval.errors import CorpusError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_LINKS = ("url", "image_url", "uri")  # as good as an image column, where there is none
_BATCH_ROWS = 8192
_Row = tuple[str, list[str], "str | None"]  # an image, its captions, their split


@dataclass(frozen=True)
class TableOptions:
    """What a table does not say itself.

    images          where its relative paths begin; None: the table's own folder
    image_column    names of its columns, in any case; None: known names are looked for
    caption_column
    split           rows of this one alone; None: of all
    """

    images: Path | None = None
    image_column: str | None = None
    caption_column: str | None = None
    split: str | None = None

    @property
    def columns(self) -> Columns:
        return Columns(
            (self.image_column.lower(),) if self.image_column else (*IMAGE_COLUMNS, *_LINKS),
            (self.caption_column.lower(),) if self.caption_column else CAPTION_COLUMNS,
        )


def is_table(name: str) -> bool:
    """By its name."""
    return name.lower().endswith(SUFFIXES)


def scan(path: str, options: TableOptions = TableOptions()) -> Scan:
    """The images that the rows name, each once, with its captions in the order of the rows.

    path  absolute

    Raises CorpusError, CaptionsError if it cannot be read, or lacks a column or the split; MissingPackageError.
    """
    if path.lower().endswith(".parquet"):
        rows, malformed = _parquet_rows(Path(path), options.columns), []
    else:
        _, captioned, malformed = rows_in(read_text(Path(path), "table"), Path(path), options.columns)
        rows = ((caption.image, [caption.text] if caption.text else [], part) for caption, part in captioned)
    base = os.path.abspath(options.images) if options.images else os.path.dirname(path)
    found = listing.named(_of_split(rows, options.split, Path(path)), base)
    return Scan(found.images, [*((path, line) for line in malformed), *found.unreadable], [])


def _of_split(rows: Iterable[_Row], split: str | None, path: Path) -> Iterator[tuple[str, list[str]]]:
    splits = set()
    for image, texts, part in rows:
        splits.add(part)
        if split in (None, part):
            yield image, texts
    if split is not None and split not in splits:
        raise no_split(path, split, splits)


def _parquet_rows(path: Path, columns: Columns) -> Iterator[_Row]:
    pyarrow, parquet = require_parquet()
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            image = _column("image", columns.image, columns.caption, names, path)
            caption = _column("caption", columns.caption, columns.image, names, path)
            kind = file.schema_arrow.field(image).type
            if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
                raise CorpusError(
                    f"{path}: the column {image} holds {kind}, not paths or links of images. "
                    "Name the column that does with --image-column."
                )
            split = next((name for name in names if name.lower() in SPLIT_COLUMNS), None)
            for batch in file.iter_batches(_BATCH_ROWS, columns=[image, caption, *([split] if split else [])]):
                parts = batch.column(split).to_pylist() if split else [None] * len(batch)
                for name, said, part in zip(batch.column(image).to_pylist(), batch.column(caption).to_pylist(), parts):
                    if name and name.strip():
                        yield name.strip(), _texts(said), part
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} has text that is not UTF-8. Write it anew as UTF-8.") from error
    except (pyarrow.ArrowException, OSError, KeyError) as error:  # KeyError: two columns of one name
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise CorpusError(f"{path} cannot be read as Parquet: {reason}.") from error


def _column(
    role: str, known: Sequence[str], taken: Sequence[str], names: Sequence[str], path: Path
) -> str:
    """The column as it is spelled. Raises CorpusError."""
    spelled = {name.lower(): name for name in reversed(names)}
    found = next((spelled[name] for name in known if name in spelled), None)
    if found is None:
        raise CorpusError(missing_column(role, known, names, taken, str(path)))
    return found


def _texts(said: Any) -> list[str]:
    """A caption or a list of them; whatever else the column holds is none."""
    listed = said if isinstance(said, list) else [said]
    return [text.strip() for text in listed if isinstance(text, str) and text.strip()]
