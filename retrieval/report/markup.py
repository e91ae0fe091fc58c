"""HTML and SVG as nested elements: text is escaped by construction, never by remembering to."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_WITHOUT_END = frozenset({"meta"})  # of HTML's void elements those used here
_ON_ITS_OWN_LINE = frozenset("article details figure g h2 h3 li p section symbol table tbody thead tr".split())


class Markup(str):
    """Text that is markup already; every other text is escaped where it is put into an element."""


def element(name: str, /, *content: object, **attributes: object) -> Markup:
    """Return <name attributes>content</name>.

    content     Markup as it is, other values as escaped text, sequences item by item, None as nothing
    attributes  class_ means class, stroke_width stroke-width; None and False are left out, True
                stands alone, and floats keep two decimals
    """
    written = "".join(_attribute(key.strip("_").replace("_", "-"), value) for key, value in attributes.items())
    end = "" if name in _WITHOUT_END else f"</{name}>"
    newline = "\n" if name in _ON_ITS_OWN_LINE else ""
    return Markup(f"<{name}{written}>{joined(content)}{end}{newline}")


def joined(content: object) -> Markup:
    """The content of an element, without the element."""
    if content is None:
        return Markup()
    if isinstance(content, Markup):
        return content
    if isinstance(content, Iterable) and not isinstance(content, str):
        return Markup("".join(map(joined, content)))
    return Markup(escape(str(content)))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {key}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {key}="{escape(text)}"'
