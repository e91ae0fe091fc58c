"""`retrieval benchmark`"""

from __future__ import annotations

import sys

import click

from retrieval.cli import options


_MOST = 2**31 - 1


class _Cutoffs(click.ParamType):
    """Whole numbers of at least 1, between commas."""

    name = "K,K,..."

    def convert(self, value, parameter, context):
        if isinstance(value, tuple):
            return value
        try:
            ks = tuple(sorted({int(part) for part in value.split(",")}))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,5,10.", parameter, context)
        if ks[0] < 1:
            self.fail(f"{ks[0]} results are no results; give numbers of at least 1.", parameter, context)
        if ks[-1] > _MOST:
            self.fail(f"{ks[-1]} is more than can be counted; give numbers up to {_MOST}.", parameter, context)
        return ks


@click.command("benchmark", epilog=options.examples(
    "retrieval benchmark Photos.collection --captions captions.csv",
    "retrieval benchmark Photos.collection  # with the captions that it keeps of its images",
    "retrieval benchmark ~/Photos --captions captions.csv --model builtin --model ViT-B-32-SigLIP2-256",
    "retrieval benchmark coco --root ~/data/coco --model ViT-B-32/openai --check-published",
    'retrieval benchmark Photos.collection --captions c.csv --index Flat --index "IVF256,SQfp16"',
    "retrieval benchmark xm3600 --root ~/data/xm3600 --language en --language zh",
    "retrieval benchmark Photos.collection --captions c.csv --failures 50 --html report.html",
    "retrieval benchmark Photos.collection --captions c.csv --min-score auto",
    "retrieval benchmark Photos.collection --captions c.csv --rerank ViT-B-32-SigLIP2-256",
    "retrieval benchmark Photos.collection --captions c.csv --export trec -o run",
))
@click.argument("target", metavar="TARGET")
@options.optional_captions
@options.split
@click.option("--root", type=options.PATH, metavar="FOLDER", envvar="RETRIEVAL_DATA",
              help="Where the data set TARGET lies.")
@click.option("--language", "languages", multiple=True, metavar="CODE",
              help="Only captions in this language; repeat it for several.  [default: all]")
@click.option("--captions-per-image", type=click.IntRange(min=1), metavar="N",
              help="Only the first N captions of an image.  [default: all]")
@click.option("-k", "ks", type=_Cutoffs(), default="1,5,10", show_default=True,
              help="Numbers of results to measure at.")
@options.models
@click.option("--index", "indexes", multiple=True, metavar="FACTORY",
              help="FAISS factory string to measure; repeat it for several.  [default: the collection's]")
@click.option("--qrels", type=options.PATH, metavar="FILE",
              help="Judgements that say alone what is right: TREC qrels, CSV, or JSON; grades count in nDCG.")
@click.option("--extra-qrels", type=options.PATH, metavar="FILE",
              help="Judgements of further right answers, beside each caption's own image.")
@click.option("--failures", type=click.IntRange(min=1), metavar="N",
              help="Show the N worst queries of each direction: what came, what should have come.")
@click.option("--html", type=options.PATH, metavar="FILE",
              help="Write a report, one file that needs nothing else.")
@click.option("--export", "exports", type=click.Choice(["trec", "csv", "clip-benchmark"]), multiple=True,
              help="Write runs and judgements, a table of queries, or the data set as webdataset shards.")
@click.option("--output", "-o", type=options.PATH, metavar="FOLDER", help="Where --export writes.")
@click.option("--check-published", is_flag=True,
              help="Compare with open_clip's published table (flickr30k, coco), preprocessing exactly; "
              "status 1 if a number is more than 0.2 points off.")
@options.no_calibration
@click.option("--min-score", type=click.Choice(["auto"]),
              help="Also measure what `search --min-score auto` does after half of the images were taken away.")
@click.option("--rerank", metavar="MODEL",
              help="Also measure what `search --rerank MODEL` does, and whether that is better.")
@click.option("--strict", is_flag=True,
              help="Refuse captions without images, images without captions, and whatever else does not fit.")
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True,
              help="Bootstrap resamples behind the intervals.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
              help="Of the bootstrap.")
@options.device
@options.precision
@options.batch_size
@options.exact_preprocess
@options.as_json
def command(target, captions, split, root, languages, captions_per_image, ks, models, indexes, qrels,
            extra_qrels, failures, html, exports, output, check_published, no_calibration, min_score, rerank, strict,
            resamples, seed, device, precision, batch_size, exact_preprocess, as_json) -> None:
    """Measure how well TARGET is searched with captions, text to image and image to text.

    TARGET is a collection, asked with --captions, or else with the captions that it keeps; a
    folder or .tar of images, which is embedded with each --model and kept in the cache; or, with
    --root, a data set: flickr8k, flickr30k, coco, coco-val2017, xm3600, xtd10, webdataset, csv.
    All its images compete, captioned or not.

    R@k is the share of queries with a right answer among the first k results: a caption is right
    for its own image, an image's query is a hit if any of its captions is found. Beside it recall,
    precision, F1 and nDCG at k, MRR, mAP, median and mean rank, with 95 % intervals. A second
    table says where recall is lost: in the encoder, in the codes an index keeps, or by searching
    only a part of it; a third what a search costs. Piped and with --json all shares are fractions.
    """
    from retrieval.cli import benchmark_tables as tables
    from retrieval.cli import output as out
    from retrieval.evaluate.benchmark import run_benchmark
    from retrieval.evaluate.request import Request
    from retrieval.evaluate.scores import Sampling
    from retrieval.evaluate.subject import Captioning

    if exports and output is None:
        raise click.UsageError("--export needs --output FOLDER.")
    if output is not None and not exports:
        raise click.UsageError("--output is where --export writes; say what: --export trec, csv or clip-benchmark.")
    _check_places(html, exports, output)
    request = Request(
        target, Captioning(captions, split, languages, captions_per_image), root,
        models=tuple(dict.fromkeys(models)), default=options.model_of_environment(),
        indexes=tuple(dict.fromkeys(indexes)), ks=ks,
        judgements=qrels, extra=extra_qrels, strict=strict, failures=failures or 0,
        published=check_published, thresholds=min_score == "auto", rerank=rerank, sampling=Sampling(resamples, seed),
        device=device, precision=precision, batch_size=batch_size, exact_preprocess=exact_preprocess,
        calibrated=not no_calibration,
    )
    with out.progress_bars() as progress:
        report = run_benchmark(request, progress)
    try:
        if as_json:
            out.print_json(report.to_json())
        elif sys.stdout.isatty():
            tables.print_tables(report)
        else:
            tables.print_values(report)
        tables.print_notes(report)
    finally:  # files were asked for, whether or not anyone reads on, as with `| head`
        _write(report, html, exports, output)
    if not all(check.matches for check in report.published):
        sys.exit(1)


def _check_places(html, exports, output) -> None:
    """Before hours of embedding."""
    if html is not None:
        from retrieval.report.page import check_report_file

        check_report_file(html)
    if exports:
        from retrieval.evaluate.export import check_targets

        check_targets(output, exports)


def _write(report, html, exports, output) -> None:
    if html is not None:
        from retrieval.report.page import write_report

        write_report(html, report)
        click.echo(f"Report, to open in a browser: {html.absolute()}", err=True)
    if exports:
        from retrieval.evaluate.export import export

        for written in export(output, report, exports):
            click.echo(f"Wrote {written}", err=True)
