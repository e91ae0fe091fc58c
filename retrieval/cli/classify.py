"""`retrieval classify`"""

from __future__ import annotations

import sys

import click

from retrieval.cli import options
from retrieval.cli import output as out


@click.command("classify", epilog=options.examples(
    "retrieval classify ~/flowers",
    "retrieval classify ~/flowers --model builtin --model ViT-B-32-SigLIP2-256",
    "retrieval classify imagenet-val --classes names.tsv --templates templates.txt",
    "retrieval classify ~/flowers --probe --shots 16 --json",
))
@click.argument("folder", type=options.PATH)
@options.models
@click.option("--classes", type=options.PATH, metavar="FILE",
              help="What class folders are called: a line each of folder, tab (in a .csv, comma), "
              "name; several lines for several names.  [default: the folders' names as words]")
@click.option("--templates", type=options.PATH, metavar="FILE",
              help="Sentences, one a line, with {} in the class name's place.  [default: eight of ours]")
@click.option("--probe", is_flag=True,
              help="Also fit a logistic regression on image vectors; needs scikit-learn.")
@click.option("--shots", type=click.IntRange(min=1), metavar="N",
              help="Images per class that the probe learns from.  [default: all]")
@click.option("--test-share", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.25,
              show_default=True, help="Part of each class to be judged by with --probe, where FOLDER "
              "has no train and test.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
              help="Draws that part, the shots and the intervals.")
@click.option("--per-class", is_flag=True, help="A row per class instead.")
@options.device
@options.precision
@options.batch_size
@options.exact_preprocess
@options.as_json
def command(folder, models, classes, templates, probe, shots, test_share, seed, per_class, device,
            precision, batch_size, exact_preprocess, as_json) -> None:
    """Measure how well encoders classify the images of FOLDER, a folder of images per class.

    FOLDER/<class>/*.jpg; or FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg, judged by the
    test images. Zero-shot: an image is of the class whose name in sentences is nearest to it.
    Precision, recall and F1 are plain means over classes; mean recall is the balanced accuracy. On a
    terminal shares are in percent; piped and with --json they are fractions. Embeddings are kept
    in the cache folder.
    """
    from retrieval.classify import ProbeSettings, classify
    from retrieval.encoders import check_name
    from retrieval.maintain import Watcher

    if shots and not probe:
        raise click.UsageError("--shots is for the linear probe; add --probe.")
    models = models or tuple(filter(None, [options.model_of_environment()]))
    for model in models:  # before the first is embedded
        check_name(model)
    results = []
    for model in dict.fromkeys(models) or [None]:
        with out.progress_bar("Encoding") as (set_total, advance):
            results.append(classify(
                folder, model, names=classes, templates=templates,
                probe=ProbeSettings(shots, test_share) if probe else None, seed=seed, device=device,
                precision=precision, batch_size=batch_size,
                exact_preprocess=exact_preprocess, watcher=Watcher(set_total, advance),
            ))
    results.sort(key=lambda result: result.headline.top_1.value, reverse=True)
    if as_json:
        for result in results:
            out.print_json(result.to_json())
        return
    if per_class:
        _print_classes(results)
    elif sys.stdout.isatty():
        _print_table(results)
    else:
        _print_values(results)
    _say_what_was_measured(results)


def _print_classes(results) -> None:
    out.print_rows(
        ("model", "method", "class", "name", "precision", "recall", "F1", "images"),
        [(result.model, method, one.folder, one.name, one.precision, one.recall, one.f1, one.support)
         for result in results for method, scores in result.by_method.items() for one in scores.per_class],
    )


def _print_table(results) -> None:
    """On a terminal, in percent."""
    from retrieval.report.numbers import best_shown

    measured = [(result.model, method, scores) for result in results for method, scores in result.by_method.items()]
    names = {"top_1": "top-1", "top_5": "top-5", "balanced_accuracy": "mean recall",
             "macro_precision": "precision", "macro_f1": "F1"}
    cells = [{**scores.estimates, **scores.means} for _, _, scores in measured]
    shown = [name for name in names if name in cells[0]]
    best = {name: best_shown([_value(row[name]) for row in cells], _percent) for name in shown}
    out.print_rows(
        ("model", "method", *(names[name] for name in shown)),
        [(model, method, *(
            out.Best(_with_interval(row[name])) if _percent(_value(row[name])) == best[name]
            else _with_interval(row[name]) for name in shown
        )) for (model, method, _), row in zip(measured, cells)],
        title=f"{results[0].folder}: percent and 95 % interval",
    )


def _print_values(results) -> None:
    """One value a line, as fractions."""
    rows = []
    for result in results:
        for method, scores in result.by_method.items():
            rows += [(result.model, method, name, *map(out.plain, (one.value, one.low, one.high)))
                     for name, one in scores.estimates.items()]
            rows += [(result.model, method, name, out.plain(value), "", "") for name, value in scores.means.items()]
    out.print_rows(("model", "method", "metric", "value", "low", "high"), rows)


def _value(measured) -> float:
    return measured if isinstance(measured, float) else measured.value


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _with_interval(measured) -> str:
    if isinstance(measured, float):
        return _percent(measured)
    return f"{_percent(measured.value)}  {_percent(measured.low)}-{_percent(measured.high)}"


def _say_what_was_measured(results) -> None:
    first = results[0]  # all have the same images
    click.echo(f"{first.zero_shot.images} images of {first.classes} classes ({first.split}); zero-shot with "
               f"{len(first.templates)} templates.", err=True)
    for result in results:
        if result.probe:
            click.echo(f"Linear probe of {result.model}: {result.probe.sentence}", err=True)
    if first.left_out:
        _name("Classes left out", [f"{name} ({reason})" for name, reason in first.left_out])
    if first.unlabelled:
        _name("Images in no class folder, left out", first.unlabelled)
    out.warn_skipped(first.skipped)


def _name(what: str, names: list[str]) -> None:
    more = f" and {len(names) - 5} more; --json lists all" if len(names) > 5 else ""
    click.echo(f"{what}: {len(names)}: {', '.join(names[:5])}{more}", err=True)
