"""A contact sheet: ranked matches with thumbnails, as one piece of HTML that needs nothing else."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Iterable, Sequence

from retrieval.corpus import addresses
from retrieval.errors import ImageError
from retrieval.files import write_atomically
from retrieval.images import thumbnail
from retrieval.types import Hit

THUMBNAIL_PIXELS = 240
Section = tuple[str, Sequence[Hit]]  # a query, as results call it, and its hits
_PAGE_STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
h1 { font-size: 1.4rem }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1b } }
"""
# Also for pages of others, such as notebooks: it styles nothing around the sheet, and is readable
# on light and on dark.
_SHEET_STYLE = """
.contact-sheet h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
.contact-sheet ol { display: flex; flex-wrap: wrap; gap: 1rem; margin: 0; padding: 0; list-style: none }
.contact-sheet li { width: 180px; margin: 0 } .contact-sheet figure { margin: 0 }
.contact-sheet img, .contact-sheet .missing { width: 180px; height: 140px; object-fit: contain;
  background: #8883; border-radius: 6px; display: block; margin: 0; overflow: hidden }
.contact-sheet figcaption { font-size: .8rem; overflow-wrap: anywhere; padding-top: .2rem }
.contact-sheet b { color: #2a7fd4 }
"""


def write_contact_sheet(path: Path, title: str, hits: Iterable[Section]) -> None:
    """Write one section per query, best match first. Raises OSError.

    An image that can no longer be read keeps its place, without a picture.
    """
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_PAGE_STYLE}</style>\n"
        f"<h1>{escape(title)}</h1>\n{contact_sheet(hits)}\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode(errors="backslashreplace"))  # arguments need not be valid Unicode


def contact_sheet(hits: Iterable[Section]) -> str:
    """The sheet as a part of a page, its style included: one section per query, best match first."""
    sections = "\n".join(_section(query, found) for query, found in hits)
    return f'<style>{_SHEET_STYLE}</style>\n<article class="contact-sheet">\n{sections}\n</article>'


def _section(query: str, hits: Sequence[Hit]) -> str:
    items = "\n".join(f"<li>{_figure(hit)}</li>" for hit in hits)
    return f"<section><h2>{escape(query)}</h2><ol>\n{items}\n</ol></section>"


def _figure(hit: Hit) -> str:
    name = escape(addresses.in_words(hit.id))
    try:
        picture = base64.b64encode(thumbnail(addresses.read(hit.path), THUMBNAIL_PIXELS)).decode()
        image = f'<img src="data:image/jpeg;base64,{picture}" alt="{name}">'
    except ImageError as error:
        image = f'<div class="missing">{escape(str(error))}</div>'
    caption = "" if hit.caption is None else f"<q>{escape(hit.caption)}</q> "
    return (
        f"<figure>{image}<figcaption><b>{hit.score:.3f}</b> {hit.rank}. {caption}{name}"
        "</figcaption></figure>"
    )
