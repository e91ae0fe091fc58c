"""`retrieval explain`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from retrieval.cli import options
from retrieval.cli import output as out
from retrieval.errors import QueryError

LONGEST_SIDE = 1024  # pixels of the PNG
COLUMNS = 80


@click.command("explain", epilog=options.examples(
    'retrieval explain Photos.collection ./sofa.jpg "a red sofa"',
    'retrieval explain Photos.collection 2019/beach/IMG_1.jpg "a dog" -o why.png',
    'retrieval explain Photos.collection ./sofa.jpg "a red sofa" --method occlusion --json',
))
@click.argument("collection", type=options.PATH)
@click.argument("image")
@click.argument("query")
@click.option("-o", "--output", type=options.PATH, metavar="FILE",
              help="The PNG to write.  [default: NAME.explained.png, here]")
@click.option("--method", type=click.Choice(["auto", "gradient", "occlusion"]), default="auto", show_default=True,
              help="gradient: in one pass, as fine as the encoder's grid. occlusion: by covering one region "
              "after the other, with any encoder.")
@options.device
@options.precision
@options.as_json
def command(collection, image, query, output, method, device, precision, as_json) -> None:
    """Show which regions of IMAGE speak for QUERY, and which of its words matter.

    IMAGE is a file, or an image of COLLECTION by its id or path. The regions are drawn over it as a
    PNG, and in the terminal. QUERY is of words, as for `retrieval search`. Brightness is relative to the image's own strongest region: look at the
    score to see whether there is anything to explain. A word's drop is how much lower the score is
    without it. What the encoder does not see, such as the ends of a panorama, stays dark.
    """
    from retrieval.collection import Collection
    from retrieval.explain import drawn, explain
    from retrieval.files import obstacle
    from retrieval.named_image import find_image

    with Collection.open(collection, device=device, precision=precision) as opened:
        found = find_image(opened, image)
        words = _words(query)  # complain before loading anything
        output = output or Path(f"{Path(found.address).stem}.explained.png")
        if output.suffix.lower() != ".png":
            raise QueryError(f"{output} is not named as a PNG. Give a file that ends in .png.")
        if output.resolve() == Path(found.address).resolve():
            raise QueryError(f"{output} is the image itself. Give another file with -o.")
        if reason := obstacle(output):
            raise QueryError(f"{output} cannot be written: {reason}.")
        picture = found.open(at_least=LONGEST_SIDE)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        explained = explain(opened.load_encoder(), picture, words, method=method)
    drawing = drawn(picture, explained.heat)
    _save(drawing, output)
    if as_json:
        out.print_json({"image": image, "query": query, "path": str(output), **explained.to_json()})
        return
    if not sys.stdout.isatty():
        out.print_rows(("what", "name", "value"), [
            ("drawing", output, explained.method), ("score", query, explained.score),
            *(("word", *one) for one in explained.words),
        ])
        return
    _draw(drawing)
    out.print_facts({"score": explained.score, "drawing": f"{output} (by {explained.method})"})
    if explained.words:
        out.print_rows(("word", "drop"), explained.words)


def _words(query: str) -> str:
    """What a search by this would look for. Raises QueryError unless that is words."""
    from retrieval.query import parse

    parsed = parse(query)
    if parsed.terms or not parsed.is_text:
        raise QueryError(
            f"{query} is not of words alone, by which an image is explained. If it is, put it in quotes of its own: "
            f"'\"{query.strip()}\"'."
        )
    return parsed.shown


def _save(drawing, output: Path) -> None:
    import io

    from retrieval.files import write_atomically

    content = io.BytesIO()
    drawing.save(content, "PNG")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, content.getvalue())


def _draw(drawing) -> None:
    """In half blocks; where there are no colours, not at all."""
    from rich.console import Console
    from rich.text import Text

    from retrieval.explain import half_blocks

    console = Console()
    if console.color_system is None:
        return
    for row in half_blocks(drawing, min(COLUMNS, console.width)):
        line = Text(no_wrap=True, end="\n")
        for upper, lower in row:
            line.append("▀", f"rgb({','.join(map(str, upper))}) on rgb({','.join(map(str, lower))})")
        console.print(line)
