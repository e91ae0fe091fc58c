"""A contact sheet: ranked matches with thumbnails, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Mapping, Sequence

from retrieval.corpus import addresses
from retrieval.errors import ImageError
from retrieval.files import write_atomically
from retrieval.images import thumbnail
from retrieval.types import Hit

THUMBNAIL_PIXELS = 240
_STYLE = """
body { font: 16px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
ol { display: flex; flex-wrap: wrap; gap: 1rem; margin: 0; padding: 0; list-style: none }
li { width: 180px } figure { margin: 0 }
img, .missing { width: 180px; height: 140px; object-fit: contain; background: #eee; border-radius: 6px;
  display: block }
figcaption { font-size: .8rem; overflow-wrap: anywhere; padding-top: .2rem } b { color: #06c }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1b }
  img, .missing { background: #333 } b { color: #6bf } }
"""


def write_contact_sheet(path: Path, title: str, hits: Mapping[str, Sequence[Hit]]) -> None:
    """Write one section per query, best match first. Raises OSError.

    An image that can no longer be read keeps its place, without a picture.
    """
    sections = "\n".join(_section(query, found) for query, found in hits.items())
    page = (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>\n"
        f"<h1>{escape(title)}</h1>\n{sections}\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode())


def _section(query: str, hits: Sequence[Hit]) -> str:
    items = "\n".join(f"<li>{_figure(hit)}</li>" for hit in hits)
    return f"<section><h2>{escape(query)}</h2><ol>\n{items}\n</ol></section>"


def _figure(hit: Hit) -> str:
    try:
        picture = base64.b64encode(thumbnail(addresses.read(hit.path), THUMBNAIL_PIXELS)).decode()
        image = f'<img src="data:image/jpeg;base64,{picture}" alt="{escape(hit.id)}">'
    except ImageError as error:
        image = f'<div class="missing">{escape(str(error))}</div>'
    return (
        f"<figure>{image}<figcaption><b>{hit.score:.3f}</b> {hit.rank}. {escape(hit.id)}"
        "</figcaption></figure>"
    )
