"""What `retrieval train` says: while it runs as log lines, at the end as facts or JSON."""

from __future__ import annotations

import logging
import shlex
from dataclasses import asdict

import click

from retrieval.cli import output as out

log = logging.getLogger("retrieval")


def show(outcome, output, as_json, facts, recalls, use) -> None:
    """use: the command that takes the model, None if none does"""
    if as_json:
        out.print_json({"model": str(output), **asdict(outcome)})
        return
    out.print_facts({
        **facts, **{f"held-out {direction.replace('_', ' ')}": _in_words(scores) for direction, scores in recalls.items()},
    }, title=str(output))
    if use:
        click.echo(f"Use it: {use} {shlex.quote(str(output))}")


def show_match(outcome, output, as_json) -> None:
    facts, lift = asdict(outcome), outcome.held_out
    del facts["held_out"]
    if lift is not None:
        facts["held out"] = (
            f"R@1 text to image among {lift.photos:,} photos {100 * lift.before:.1f}, reranked {100 * lift.after:.1f}"
            f" (difference {100 * lift.low:+.1f} to {100 * lift.high:+.1f})"
        )
        facts["weight of its scores"] = lift.weight
    helps = lift is None or lift.weight > 0
    show(outcome, output, as_json, facts, {}, "retrieval search COLLECTION QUERY --rerank" if helps else None)
    if not helps:
        click.echo("It does not help: whatever its scores weigh, they rank the photos held out no better. "
                   "Reranking by it would change nothing.", err=True)
    elif lift is not None and not lift.is_clear:
        click.echo("It is not clearly better on the photos held out: the difference may be chance.", err=True)


def report_match_step(step) -> None:
    log.info("step %d of %d: loss %.3f, right %.3f", step.step, step.steps, step.loss, step.right)


def report_every_tenth(epoch) -> None:
    if epoch.number % 10 == 0 or epoch.number == 1:
        log.info("epoch %d: loss %.3f, temperature %.4f", epoch.number, epoch.loss, epoch.temperature)


def report_step(step) -> None:
    log.info("step %d, epoch %d: loss %.3f, temperature %.4f, %.1f images/s",
             step.step, step.epoch, step.loss, step.temperature, step.images_per_second)


def report_epoch(epoch) -> None:
    found = "; ".join(f"{direction.replace('_', ' ')} {_in_words(scores)}" for direction, scores in epoch.recalls.items())
    log.info("epoch %d: loss %.3f, temperature %.4f%s", epoch.epoch, epoch.loss, epoch.temperature, found and f"; {found}")


def _in_words(scores) -> str:
    return ", ".join(f"{name} {value}" for name, value in scores.items())
