"""`retrieval search`"""

from __future__ import annotations

import sys

import click

from retrieval.cli import options
from retrieval.errors import QueryError


@click.command("search", epilog=options.examples(
    'retrieval search Photos.collection "a dog on the beach"',
    "retrieval search Photos.collection ./sofa.jpg -k 3",
    'retrieval search Photos.collection "red car" "blue car" --json',
    "retrieval search Photos.collection ./sofa.jpg --in captions  # what it might be said to show",
    'retrieval search Photos.collection "a red tractor" --min-score auto  # nothing, if there is none',
    'retrieval search Photos.collection "a beach" --dedup --diverse',
    'retrieval search Photos.collection "two dogs" --rerank ViT-B-32-SigLIP2-256',
    "retrieval search Photos.collection -- -40  # a query that starts with a dash",
    "cat queries.txt | retrieval search Photos.collection -",
))
@click.argument("collection", type=options.PATH)
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@click.option("-k", type=click.IntRange(min=1), metavar="N",
              help="Results per query.  [default: 10, or all if there are fewer]")
@click.option("--in", "within", type=click.Choice(["images", "captions"]), default="images",
              show_default=True, help="What to find: images, or captions that are embedded.")
@options.refinements
@options.device
@options.precision
@options.as_json
def command(collection, queries, k, within, min_score, dedup, diverse, rerank, templates, device,
            precision, as_json) -> None:
    """Find the images of COLLECTION that match each QUERY best.

    A QUERY that is an existing image file is searched by that image, everything else by its
    words. Put words in quotes: every argument is a query of its own. - reads queries from
    stdin, one a line. Scores are cosines, at most 1; larger is better.

    With --in captions the results are captions, each with its image: those that the sources gave,
    if they were embedded by `retrieval index --with-captions`.

    --min-score, --dedup, --diverse and --rerank take effect in this order: the best are looked at
    again, those too low are left out, pictures that are there twice are collapsed, the rest is spread,
    and then cut to k. Options with an optional value stand behind the queries, or take it with =.
    """
    from retrieval.cli.output import print_json, print_rows
    from retrieval.collection import Collection
    from retrieval.corpus import addresses
    from retrieval.query import parse

    asked = [line for query in queries for line in (_from_stdin() if query == "-" else [query])]
    if not asked:
        raise QueryError("There are no queries on stdin.")
    for query in asked:
        parse(query)  # complain before loading anything
    with Collection.open(collection, device=device, precision=precision) as opened:
        hits = opened.search(
            asked, k, within=within, min_score=min_score, dedup=dedup, diverse=diverse, templates=templates,
            rerank=rerank,
        )
    if as_json:
        for hit in hits:
            print_json({**hit.as_json(), **addresses.position(hit.path)})
        return
    if within == "captions":
        print_rows(
            ("query", "rank", "score", "caption", "path"),
            [(hit.query, hit.rank, hit.score, hit.caption, addresses.in_words(hit.path)) for hit in hits],
        )
        return
    more = [name for name in ("relevance", "rerank_score", "duplicates")
            if any(getattr(hit, name) is not None for hit in hits)]
    print_rows(
        ("query", "rank", "score", *more, "path"),
        [(hit.query, hit.rank, hit.score, *(_cell(getattr(hit, name)) for name in more),
          addresses.in_words(hit.path)) for hit in hits],
    )
    if not hits:
        click.echo("Nothing scores high enough. See what comes nearest: leave out --min-score.", err=True)


def _cell(value):
    return "" if value is None else value


def _from_stdin() -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin if line.strip()]
