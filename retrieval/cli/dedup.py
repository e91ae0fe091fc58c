"""`retrieval dedup`"""

from __future__ import annotations

import click

from retrieval.cli import options


@click.command("dedup", epilog=options.examples(
    "retrieval dedup Photos.collection",
    "retrieval dedup Photos.collection --threshold 0.98 --json",
    "retrieval dedup Photos.collection --exact --paths -0 | xargs -0 -r mv -t duplicates/",
))
@click.argument("collection", type=options.PATH)
@click.option("--threshold", type=click.FloatRange(0, 1, min_open=True), metavar="SCORE",
              help="Cosine from which on two images are the same picture.  [default: 0.93]")
@click.option("--exact", is_flag=True, help="Only files with the very same content.")
@click.option("--paths", is_flag=True, help="Print only paths: all but the best of each group. Frames and what lies in archives are no "
              "files of their own, and left out.")
@click.option("-0", "--null", is_flag=True, help="With --paths: end each with a null byte, for xargs -0.")
@options.as_json
def command(collection, threshold, exact, paths, null, as_json) -> None:
    """List the images of COLLECTION that are there more than once. Nothing is ever deleted.

    Equal files are told by their content, near-copies (another size, another quality, a little cut
    off) by their vectors. The best of each group comes first: that with the most pixels, then the
    most bytes. What is joined by a chain of near-copies is one group, so look before you act.
    """
    from retrieval.cli import output as out
    from retrieval.cli.hits import print_paths
    from retrieval.collection import Collection
    from retrieval.corpus import addresses
    from retrieval.duplicate_groups import duplicate_groups
    from retrieval.wanted import SAME_PICTURE

    if null and not paths:
        raise click.UsageError("-0 is about how --paths ends each path; give both.")
    if exact and threshold is not None:
        raise click.UsageError("--exact compares contents, to which --threshold means nothing.")
    if paths and as_json:
        raise click.UsageError("--paths and --json are two ways to print; choose one.")
    with Collection.open(collection) as opened:
        groups = duplicate_groups(opened, None if exact else threshold or SAME_PICTURE)
    if as_json:
        for number, group in enumerate(groups, 1):
            out.print_json({"group": number, **group.as_json()})
        return
    if paths:
        # A video is not its frame: the rest of it may be there only once.
        print_paths(
            [file.path for group in groups for file in group.files[1:]],
            lambda path: path if addresses.file_of(path) == path else None, null,
        )
        return
    out.print_rows(
        ("group", "kind", "score", "width", "height", "bytes", "path"),
        [(number, group.kind, score, file.width, file.height, file.size, addresses.in_words(file.path))
         for number, group in enumerate(groups, 1) for file, score in zip(group.files, group.scores)],
    )
    spare = sum(file.size for group in groups for file in group.files[1:])
    more = sum(len(group.files) - 1 for group in groups)
    click.echo(f"{len(groups)} groups; {more} images ({out.in_bytes(spare)}) beside the best of each.", err=True)
