"""retrieval search"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Iterator

import click

from retrieval.cli import options
from retrieval.cli.filters import filters, stated
from retrieval.errors import QueryError, RetrievalError


@click.command("search", epilog=options.examples(
    'retrieval search Photos.collection "a dog on the beach"',
    "retrieval search Photos.collection ./sofa.jpg -k 3",
    "retrieval search Photos.collection  # asks for queries, with the encoder kept loaded",
    'retrieval search Photos.collection "red car" + ./like.jpg - truck --weight 2',
    "retrieval search Photos.collection id:2019/rex.jpg + snow  # like a stored image, in snow",
    "retrieval search Photos.collection beach --where \"taken >= 2024-06 and camera ~ 'Pixel'\"",
    "retrieval search Photos.collection beach --near 48.858,2.294,5 --before 2020",
    "retrieval search Photos.collection ./sofa.jpg --in captions  # what it might be said to show",
    'retrieval search Photos.collection "a red tractor" --min-score auto  # nothing, if there is none',
    'retrieval search Photos.collection "a beach" --dedup --diverse',
    'retrieval search Photos.collection "two dogs" --rerank ViT-B-32-SigLIP2-256',
    'retrieval search Photos.collection "a dog" --html dogs.html --open',
    'retrieval search Photos.collection "a dog" --paths -0 | xargs -0 cp -t dogs/',
    "retrieval search Photos.collection -- -40  # a query that starts with a dash",
    "cat queries.txt | retrieval search Photos.collection - --json",
))
@click.argument("collection", type=options.PATH)
@click.argument("queries", nargs=-1, metavar="[QUERY...]")
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
@options.refinements
@options.no_calibration
@options.forms
@options.as_json
@click.option("--no-server", is_flag=True, help="Load everything here, though `retrieval serve` runs for COLLECTION.")
@click.option("--no-cache", is_flag=True, help="Embed queries anew, and do not remember their vectors.")
@options.device
@options.precision
def command(
    collection, queries, k, within, file, weights, fusion, min_score, dedup, diverse, rerank, templates,
    no_calibration, thumbnails, paths, null, html, open_it, as_json, no_server, no_cache, device, precision,
    **filtered,
) -> None:
    """Find the images of COLLECTION that match each QUERY best.

    A QUERY that is an existing image file is searched by that image, id:NAME by the stored image
    of that id, everything else by its words. Put words in quotes: every argument is a query of
    its own, unless + or - stand between: they add and subtract. Within one argument they do so
    between spaces, with weights in front: "2:red car + ./like.jpg - truck". Words in quotes of
    their own are only words: '"salt - pepper" + ./cellar.jpg'. Without a QUERY a terminal is asked.

    A lone - reads queries from stdin, one a line, or objects such as {"query": "a dog", "k": 3,
    "where": "taken >= 2024"}. They are answered in batches; with --json as they come.

    Scores are cosines, at most 1; larger is better. Where the collection is calibrated, as with the
    built-in encoder, images that are close to every text come later than their score for words
    says: see `retrieval calibrate`.

    \b
    Filters compare
      id path camera caption     = != ~ !~  (~ contains, whatever the case)
      width height lat lon       = != < <= > >=
      size                       the same, with units: size > 10MB
      taken modified             the same, with dates: 2024, 2024-06, 2024-06-01, '2024-06-01 12:30'
    and are joined by and, or, not and parentheses; width in (1024, 2048), lat = none.

    --rerank, --min-score, --dedup and --diverse take effect in this order: the best are looked at
    again, those too low are left out, pictures that are there twice are collapsed, the rest is spread,
    and then cut to k. Options with an optional value stand behind the queries, or take it with =.

    With --in captions the results are captions, each with its image: those that the sources gave,
    if they were embedded by `retrieval index --with-captions`.

    A `retrieval serve` of the same COLLECTION on this machine is asked, if one runs: it has
    everything loaded. Only --rerank, and queries of stdin or a file, are searched for here.
    """
    from retrieval.cli.hits import Form
    from retrieval.query import parse_arguments
    from retrieval.wanted import Refinement, Wanted

    form = Form(as_json, paths, null, thumbnails, within == "captions")
    lines = _lines(queries, file)
    if lines is not None and weights:
        raise click.UsageError("--weight is for a query among the arguments; in lines write 2:term.")
    parsed = parse_arguments(queries, weights) if lines is None else []  # complain before loading anything
    refinement = Refinement(min_score, dedup, diverse)
    said = stated(**filtered)
    wanted = Wanted(k, within, said.condition(), fusion, templates, not no_calibration, refinement)
    if not parsed and lines is None:
        _require_somebody_to_ask(html or open_it)
    hits, failed = None, []
    if parsed and not no_server and rerank is None and (device, precision) == ("auto", "auto"):
        from retrieval.serve.client import ask_running

        hits = ask_running(collection, parsed, wanted, said)
    if hits is None:
        from retrieval.collection import Collection

        how = {"device": device, "precision": precision, "remember_queries": not no_cache}
        with Collection.open(collection, **how) as opened:
            if rerank is not None:
                wanted = replace(wanted, refinement=replace(refinement, rerank=opened.reranker(rerank)))
            if not parsed and lines is None:
                _ask(opened, wanted, form)
                return
            hits = opened.answer(parsed, wanted) if lines is None else _of_lines(opened, lines, wanted, failed)
            hits = form.print(hits)
            _name_missed(opened, parsed, hits, wanted)
    else:
        _name_missed(collection, parsed, form.print(hits), wanted)
    if html:
        _write_sheet(html, collection, hits)
    if open_it:
        _open(html, hits)
    if failed:
        raise QueryError(failed[0])


def _lines(queries, file):
    """Lines to read queries from; None if they are arguments."""
    if file and queries:
        raise click.UsageError("Give queries or --queries FILE, not both.")
    if file:
        return click.get_current_context().with_resource(open(file, encoding="utf-8", errors="replace"))
    return sys.stdin if queries == ("-",) else None


def _of_lines(collection, lines, wanted, failed) -> Iterator:
    """Hits of all queries; those that cannot be asked are named on stderr, and counted in a sentence added to failed."""
    from retrieval.batch import answer
    from retrieval.cli.output import progress_bar

    collection.checked_k(wanted.k, wanted.within)
    answered, refused = 0, 0

    def refuse(number, error):
        nonlocal refused
        refused += 1
        click.echo(f"Line {number}: {error}", err=True)

    with progress_bar("Searching") as (_, advance):
        for asked, hits in answer(collection, lines, wanted, refuse, advance):
            answered += 1
            _name_missed(collection, [asked.query], hits, replace(wanted, where=asked.where), f"Line {asked.line}: ")
            yield from (replace(hit, line=asked.line) for hit in hits)
    if refused:
        failed.append(f"{refused} of {answered + refused} queries could not be asked; they are named above.")
    elif not answered:
        raise QueryError(f"There are no queries {'on stdin' if lines is sys.stdin else 'in the file'}.")


def _require_somebody_to_ask(one_result_is_meant) -> None:
    from retrieval.cli.prompt import is_possible

    if one_result_is_meant or not is_possible():
        raise click.UsageError(
            "There is no query. Say what to look for, in quotes; - reads queries from stdin. Without one, "
            "a terminal is asked."
        )


def _ask(collection, wanted, form) -> None:
    from retrieval.cli.prompt import prompt
    from retrieval.query import parse

    def answer(line, k) -> None:
        query = parse(line)
        _name_missed(collection, [query], form.print(collection.answer([query], replace(wanted, k=k))), wanted)

    prompt(answer, wanted.k)


def _name_missed(collection, queries, hits, wanted, place="") -> None:
    """Say on stderr which of the queries have no hits, and why.

    collection  a path, where a server searched: only to see whether anything passes a filter it is opened here
    """
    found = {hit.query for hit in hits}
    missed = dict.fromkeys(query.shown for query in queries if query.shown not in found)
    if missed and wanted.where and _nothing_passes(collection, wanted):
        path = getattr(collection, "path", collection)
        click.echo(f"{place}No image of {path} passes the filter.", err=True)
    elif wanted.refinement.min_score is not None:
        for shown in missed:
            click.echo(f"{place}Nothing scores high enough for {shown!r}. See what comes nearest: leave out --min-score.",
                       err=True)


def _nothing_passes(collection, wanted) -> bool:
    from retrieval.collection import Collection

    with Collection.open(collection) if isinstance(collection, Path) else nullcontext(collection) as opened:
        return not opened.allowed(wanted.where, wanted.within).any()


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
