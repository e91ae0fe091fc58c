"""`retrieval search`"""

from __future__ import annotations

import sys

import click

from retrieval.cli import options
from retrieval.errors import QueryError, RetrievalError


@click.command("search", epilog=options.examples(
    'retrieval search Photos.collection "a dog on the beach"',
    "retrieval search Photos.collection ./sofa.jpg -k 3",
    'retrieval search Photos.collection "red car" "blue car" --json',
    "retrieval search Photos.collection  # asks for queries, with the encoder kept loaded",
    'retrieval search Photos.collection "a dog" --html dogs.html --open',
    'retrieval search Photos.collection "a dog" --paths -0 | xargs -0 cp -t dogs/',
    "retrieval search Photos.collection ./sofa.jpg --in captions  # what it might be said to show",
    "retrieval search Photos.collection -- -40  # a query that starts with a dash",
    "cat queries.txt | retrieval search Photos.collection -",
))
@click.argument("collection", type=options.PATH)
@click.argument("queries", nargs=-1, metavar="[QUERY...]")
@click.option("-k", type=click.IntRange(min=1), metavar="N",
              help="Results per query.  [default: 10, or all if there are fewer]")
@click.option("--in", "within", type=click.Choice(["images", "captions"]), default="images",
              show_default=True, help="What to find: images, or captions that are embedded.")
@options.device
@options.precision
@options.as_json
@click.option("--thumbnails/--no-thumbnails", default=None,
              help="Pictures in the table: by the protocols of Kitty, iTerm2 or Sixel, or in half blocks.  "
              "[default: on a terminal with colours]")
@click.option("--paths", is_flag=True, help="Print only the files, each once: of a video's frame, the video.")
@click.option("-0", "--null", is_flag=True, help="End paths with NUL instead of a line break, as xargs -0 reads them.")
@click.option("--html", type=options.PATH, metavar="FILE", help="Write a contact sheet too: one file, pictures inside.")
@click.option("--open", "open_it", is_flag=True, help="Open the contact sheet, or else the best match's file.")
@click.option("--no-server", is_flag=True, help="Load everything here, though `retrieval serve` runs for COLLECTION.")
def command(
    collection, queries, k, within, device, precision, as_json, thumbnails, paths, null, html, open_it, no_server
) -> None:
    """Find the images of COLLECTION that match each QUERY best.

    A QUERY that is an existing image file is searched by that image, everything else by its
    words. Put words in quotes: every argument is a query of its own. - reads queries from
    stdin, one a line. Scores are cosines, at most 1; larger is better. Without a QUERY a
    terminal is asked for them.

    With --in captions the results are captions, each with its image: those that the sources gave,
    if they were embedded by `retrieval index --with-captions`.

    A `retrieval serve` of the same COLLECTION on this machine is asked, if one runs and no --device,
    --precision or --in captions is given: it has everything loaded.
    """
    from retrieval.cli.hits import Form
    from retrieval.query import parse

    form = Form(as_json, paths, null, thumbnails, within == "captions")
    if not queries:
        _prompt(collection, k, within, device, precision, form, html or open_it)
        return
    asked = [line for query in queries for line in (_from_stdin() if query == "-" else [query])]
    if not asked:
        raise QueryError("There are no queries on stdin.")
    parsed = [parse(query) for query in asked]  # complain before loading anything
    hits = None
    if not no_server and (within, device, precision) == ("images", "auto", "auto"):
        from retrieval.serve.client import ask_running

        hits = ask_running(collection, parsed, k)
    if hits is None:
        from retrieval.collection import Collection

        with Collection.open(collection, device=device, precision=precision) as opened:
            hits = opened.search(asked, k, within=within)
    form.print(hits)
    if html:
        _write_sheet(html, collection, hits)
    if open_it:
        _open(html, hits)


def _prompt(collection, k, within, device, precision, form, one_result_is_meant) -> None:
    from retrieval.cli.prompt import is_possible, prompt

    if one_result_is_meant or not is_possible():
        raise click.UsageError(
            "There is no query. Say what to look for, in quotes; - reads queries from stdin. Without one, "
            "a terminal is asked."
        )
    from retrieval.collection import Collection

    with Collection.open(collection, device=device, precision=precision) as opened:
        prompt(lambda query, k: form.print(opened.search(query, k, within=within)), k)


def _write_sheet(html, collection, hits) -> None:
    from retrieval.contact_sheet import write_contact_sheet
    from retrieval.results import Results

    write_contact_sheet(html, f"{collection.name}: {len(hits)} matches", Results(hits).by_query())
    click.echo(f"Contact sheet, to open in a browser: {html.absolute()}", err=True)


def _open(html, hits) -> None:
    from retrieval.cli.opening import open_on_desktop
    from retrieval.corpus import addresses

    if not hits:
        raise QueryError("There is nothing to open: no match was found.")
    best = hits[0].path
    place = str(html.absolute()) if html else best if addresses.is_uri(best) else addresses.file_of(best)
    if place is None:
        raise RetrievalError(f"{best} is no file of its own. Open a contact sheet instead: --html FILE --open")
    open_on_desktop(place)


def _from_stdin() -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin if line.strip()]
