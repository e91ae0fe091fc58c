"""`retrieval search`"""

from __future__ import annotations

import sys
from typing import Iterator

import click

from retrieval.cli import options
from retrieval.cli.filters import condition, filters
from retrieval.errors import QueryError


@click.command("search", epilog=options.examples(
    'retrieval search Photos.collection "a dog on the beach"',
    "retrieval search Photos.collection ./sofa.jpg -k 3",
    'retrieval search Photos.collection "red car" "blue car" --json',
    'retrieval search Photos.collection "red car" + ./like.jpg - truck --weight 2',
    "retrieval search Photos.collection id:2019/rex.jpg + snow  # like a stored image, in snow",
    "retrieval search Photos.collection beach --where \"taken >= 2024-06 and camera ~ 'Pixel'\"",
    "retrieval search Photos.collection beach --near 48.858,2.294,5 --before 2020",
    "retrieval search Photos.collection ./sofa.jpg --in captions  # what it might be said to show",
    "retrieval search Photos.collection -- -40  # a query that starts with a dash",
    "cat queries.txt | retrieval search Photos.collection - --json",
))
@click.argument("collection", type=options.PATH)
@click.argument("queries", nargs=-1, metavar="QUERY...")
@click.option("-k", type=click.IntRange(min=1), metavar="N",
              help="Results per query.  [default: 10, or all if there are fewer]")
@click.option("--in", "within", type=click.Choice(["images", "captions"]), default="images",
              show_default=True, help="What to find: images, or captions that are embedded.")
@click.option("--queries", "file", type=options.PATH, metavar="FILE",
              help="Read queries from a file, one a line, as from stdin with -.")
@click.option("--weight", "weights", type=float, multiple=True, metavar="W",
              help="Of the query's first term; repeat it for the next ones. Others weigh 1.")
@click.option("--fusion", type=click.Choice(["sum", "product", "slerp"]), default="sum", show_default=True,
              help="How the vectors of terms become one; only a sum can subtract.")
@filters
@click.option("--no-cache", is_flag=True, help="Embed queries anew, and do not remember their vectors.")
@options.no_calibration
@options.device
@options.precision
@options.as_json
def command(
    collection, queries, k, within, file, weights, fusion, no_cache, no_calibration, device, precision, as_json,
    **filtered,
) -> None:
    """Find the images of COLLECTION that match each QUERY best.

    A QUERY that is an existing image file is searched by that image, id:NAME by the stored image
    of that id, everything else by its words. Put words in quotes: every argument is a query of
    its own, unless + or - stand between: they add and subtract. Within one argument they do so
    between spaces, with weights in front: "2:red car + ./like.jpg - truck". Words in quotes of
    their own are only words: '"salt - pepper" + ./cellar.jpg'.

    A lone - reads queries from stdin, one a line, or objects such as {"query": "a dog", "k": 3,
    "where": "taken >= 2024"}. They are answered in batches; with --json as they come. Scores are
    cosines, at most 1; larger is better. Where the collection is calibrated, as with the built-in
    encoder, images that are close to every text come later than their score for words says: see
    `retrieval calibrate`.

    \b
    Filters compare
      id path camera caption     = != ~ !~  (~ contains, whatever the case)
      width height lat lon       = != < <= > >=
      size                       the same, with units: size > 10MB
      taken modified             the same, with dates: 2024, 2024-06, 2024-06-01, '2024-06-01 12:30'
    and are joined by and, or, not and parentheses; width in (1024, 2048), lat = none.

    With --in captions the results are captions, each with its image: those that the sources gave,
    if they were embedded by `retrieval index --with-captions`.
    """
    from retrieval.batch import Settings
    from retrieval.cli.output import print_json, print_rows
    from retrieval.collection import Collection
    from retrieval.corpus import addresses
    from retrieval.query import parse_arguments

    lines = _lines(queries, file)
    parsed = [] if lines is not None else parse_arguments(queries, weights)  # complain before loading anything
    if lines is not None and weights:
        raise click.UsageError("--weight is for a query among the arguments; in lines write 2:term.")
    where = condition(**filtered)
    with Collection.open(collection, device=device, precision=precision, remember_queries=not no_cache) as opened:
        if where and not opened.allowed(where, within).any():
            click.echo(f"No image of {collection} passes the filter.", err=True)
        if lines is None:
            hits = opened.search(
                parsed, k, within=within, where=where, fusion=fusion, calibrated=not no_calibration
            )
        else:
            hits = _of_lines(opened, lines, Settings(k, within, where, fusion, not no_calibration))
        if as_json:
            for hit in hits:
                print_json({**hit.as_json(), **addresses.position(hit.path)})
            return
        hits = list(hits)
    if within == "captions":
        print_rows(
            ("query", "rank", "score", "caption", "path"),
            [(hit.query, hit.rank, hit.score, hit.caption, addresses.in_words(hit.path)) for hit in hits],
        )
        return
    print_rows(
        ("query", "rank", "score", "path"),
        [(hit.query, hit.rank, hit.score, addresses.in_words(hit.path)) for hit in hits],
    )


def _lines(queries, file):
    """Lines to read queries from; None if they are arguments."""
    if file and queries:
        raise click.UsageError("Give queries or --queries FILE, not both.")
    if file:
        return click.get_current_context().with_resource(open(file, encoding="utf-8", errors="replace"))
    if not queries:
        raise click.UsageError("Missing argument 'QUERY...'.")
    return sys.stdin if queries == ("-",) else None


def _of_lines(collection, lines, settings) -> Iterator:
    """Hits of all queries; those that cannot be asked are named on stderr. Raises QueryError at the end then."""
    from retrieval.batch import answer
    from retrieval.cli.output import progress_bar

    collection.checked_k(settings.k, settings.within)
    answered, refused = 0, 0

    def refuse(number, error):
        nonlocal refused
        refused += 1
        click.echo(f"Line {number}: {error}", err=True)

    with progress_bar("Searching") as (_, advance):
        for hits in answer(collection, lines, settings, refuse, advance):
            answered += 1
            yield from hits
    if refused:
        raise QueryError(f"{refused} of {answered + refused} queries could not be asked; they are named above.")
    if not answered:
        raise QueryError(f"There are no queries {'on stdin' if lines is sys.stdin else 'in the file'}.")
