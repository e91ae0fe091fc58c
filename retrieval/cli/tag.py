"""`retrieval tag`"""

from __future__ import annotations

import sys

import click

from retrieval.cli import options
from retrieval.cli import output as out


@click.command("tag", epilog=options.examples(
    "retrieval tag Photos.collection --labels labels.txt",
    "retrieval tag Photos.collection --label dog --label cat --label 'a red car' --top 1",
    "retrieval tag Photos.collection --label dog --threshold 0.25 --json",
    "retrieval tag Photos.collection --labels labels.txt --truth truth.csv --per-label",
))
@click.argument("collection", type=options.PATH)
@click.option("--labels", type=options.PATH, metavar="FILE", help="Labels, one a line.")
@click.option("--label", "words", multiple=True, metavar="WORD", help="A label; repeat it for more.")
@click.option("--templates", type=options.PATH, metavar="FILE",
              help="Sentences, one a line, with {} in the label's place.  [default: eight of ours]")
@click.option("--threshold", type=click.FloatRange(-1, 1), metavar="X",
              help="Give every label whose score is X or more, instead of by probability.")
@click.option("--probability", type=click.FloatRange(0, 1), metavar="P",
              help="Give labels of probability P or more.  [default: 0.1]")
@click.option("--top", type=click.IntRange(min=1), metavar="N",
              help="The best N labels of each image at most.  [default: 3; with --threshold, no limit]")
@click.option("--truth", type=options.PATH, metavar="FILE",
              help="Measure instead: a table with columns image and label, a line for each label that is true.")
@click.option("--strict", is_flag=True,
              help="Refuse a --truth that names other images or labels; else they are left out, and named.")
@click.option("--per-label", is_flag=True, help="With --truth, a row per label.")
@options.device
@options.precision
@options.as_json
def command(collection, labels, words, templates, threshold, probability, top, truth, strict, per_label,
            device, precision, as_json) -> None:
    """Tag every image of COLLECTION with words of your own (zero-shot).

    Images are compared with the labels, each in several sentences, by their stored vectors; no image
    is opened. By default an image is given its best 3 labels, where they are probable: a softmax over
    all labels, with the encoder's temperature, gives each 0.1 or more. So labels compete; add what else
    there may be, such as "something else". With --threshold each label stands for itself: the score is
    the cosine of image and label, which differs by encoder.

    With --truth, precision, recall and F1 of the tags, and accuracy: how often the best label is true.
    Macro means are over labels that are true of some image.
    """
    from retrieval.classify.tags import Rule, Tagger, check_labels, read_labels
    from retrieval.collection import Collection

    if bool(labels) == bool(words):
        raise click.UsageError("Give labels: either --labels FILE or --label WORD, once or more often.")
    if threshold is not None and probability is not None:
        raise click.UsageError("--threshold and --probability are two rules; give one of them.")
    if not truth and (strict or per_label):
        raise click.UsageError("--strict and --per-label are about --truth; add it.")
    asked = read_labels(labels) if labels else check_labels([word.strip() for word in words], "--label")
    rule = Rule(
        top or (None if threshold is not None else Rule.top), threshold,
        Rule.probability if probability is None else probability,
    )
    with Collection.open(collection, device=device, precision=precision) as opened:
        tagger = Tagger(opened, asked, rule, templates=templates)
        if truth:
            _print_scores(tagger.judge(truth, strict=strict), rule, per_label, as_json)
        elif as_json:
            for image in tagger.tags():
                out.print_json({"id": image.id, "path": image.path, "tags": [tag.to_json() for tag in image.tags]})
        else:
            _print_tags(tagger)


def _print_tags(tagger) -> None:
    from retrieval.corpus.addresses import in_words

    given = images = 0

    def rows():
        nonlocal given, images
        for image in tagger.tags():
            images += 1
            given += bool(image.tags)
            for tag in image.tags:
                yield in_words(image.path), tag.label, tag.score, tag.probability

    out.stream_rows(("path", "label", "score", "probability"), rows())
    click.echo(f"{given} of {images} images tagged, each with {tagger.rule.in_words}.", err=True)


def _print_scores(scores, rule, per_label, as_json) -> None:
    if as_json:
        out.print_json({"rule": rule.in_words, **scores.to_json()})
        return
    if per_label:
        out.print_rows(
            ("label", "precision", "recall", "F1", "images", "given"),
            [(one.label, one.precision, one.recall, one.f1, one.support, one.given) for one in scores.per_label],
        )
    else:
        shown = (lambda value: f"{100 * value:.1f}") if sys.stdout.isatty() else out.plain
        out.print_rows(
            ("metric", "value", "low", "high"),
            [(name, *map(shown, (one.value, one.low, one.high))) for name, one in scores.estimates.items()]
            + [(name, shown(value), "", "") for name, value in scores.means.items()],
            title="percent and 95 % interval",
        )
    click.echo(f"{scores.images} images of known labels, tagged with {rule.in_words}.", err=True)
