"""The command line. Click lives here alone; heavy imports wait until a command runs."""

from __future__ import annotations

import sys

import click

import retrieval
from retrieval.cli import (
    benchmark, calibrate, caption, classify, compact, compress, dedup, demo, explain, export, forget, import_, index, info,
    models, search, serve, tag, train, watch,
)
from retrieval.cli.options import examples
from retrieval.errors import RetrievalError


def _show_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        click.echo(f"retrieval, version {retrieval.__version__}")
        context.exit()


class _Commands(click.Group):
    def invoke(self, context: click.Context) -> object:
        """An interrupt ends every command with 130, as shells expect; with 1 click would, and "Aborted!"."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            context.exit(130)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "retrieval demo",
        "retrieval index ~/Photos",
        'retrieval search Photos.collection "a dog on the beach"',
        "retrieval benchmark Photos.collection --captions captions.csv",
    ),
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
              help="Show the version and exit.")
def cli() -> None:
    """Index images, search them by text or by image, and measure how good the search is."""


for module in (
    index, watch, search, caption, explain, tag, serve, benchmark, calibrate, classify, info, dedup, compact,
    forget, import_, export, models, train, compress, demo,
):
    cli.add_command(module.command)


def main() -> None:
    """Entry point: one sentence and exit status 1 for errors, never a traceback for a mistake."""
    from retrieval.cli.output import configure_logging

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    if hasattr(sys.stdin, "reconfigure"):  # lines of other encodings, as in files of queries
        sys.stdin.reconfigure(errors="replace")
    configure_logging()
    try:
        cli(prog_name="retrieval")
    except RetrievalError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:  # files that are locked, full, too long a name, gone
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {where}{error.strerror or error}", err=True)
        sys.exit(1)
