"""Thumbnails in a page: each image is embedded once, however often it is shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from retrieval.corpus import addresses
from retrieval.errors import ImageError
from retrieval.images import thumbnail
from retrieval.report.markup import Markup, element

PIXELS = 160


class Pictures:
    """Hands out pictures by image id and keeps what they refer to; `embedded` belongs into the page.

    SVG's <use> repeats a picture by reference, as no <img> with a data URI can.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = paths
        self._shown: dict[str, str | ImageError] = {}  # image id -> symbol id, or why there is none
        self._symbols: list[Markup] = []

    def show(self, id: str) -> Markup:
        """The picture of an image, or a placeholder with the reason why it cannot be shown."""
        if id not in self._shown:
            self._shown[id] = self._embed(id)
        symbol = self._shown[id]
        if isinstance(symbol, ImageError):
            return element("div", f"No picture: {symbol}", class_="picture missing")
        side = f"0 0 {PIXELS} {PIXELS}"
        use = element("use", href=f"#{symbol}", width=PIXELS, height=PIXELS)
        return element("svg", use, viewBox=side, class_="picture", role="img", aria_label=id)

    def embedded(self) -> Markup:
        """Every picture shown so far."""
        return element("svg", self._symbols, class_="pictures", width=0, height=0, aria_hidden="true")

    def _embed(self, id: str) -> str | ImageError:
        if not self._paths.get(id):
            return ImageError("its file is not known")
        try:
            picture = base64.b64encode(thumbnail(addresses.read(self._paths[id]), PIXELS)).decode()
        except ImageError as error:
            return error
        symbol = f"picture-{len(self._symbols) + 1}"
        image = element("image", href=f"data:image/jpeg;base64,{picture}", width=PIXELS, height=PIXELS)
        self._symbols.append(element("symbol", image, id=symbol, viewBox=f"0 0 {PIXELS} {PIXELS}"))
        return symbol
