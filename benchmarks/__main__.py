"""The benchmarks' command line."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from benchmarks import compare as comparison
from benchmarks import machine, results, runner, suites
from benchmarks import report as reporting
from benchmarks.case import BenchmarkError, Case

README = machine.ROOT / "README.md"
PLOTS = Path(__file__).with_name("plots")
FULL_REPEATS, QUICK_REPEATS = 5, 1
FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Measure speed and memory, with peers side by side; compare runs; write the README's tables."""


@cli.command(epilog="""\b
Examples:
  python -m benchmarks run --quick
  python -m benchmarks run indexes --peer faiss --repeats 3
  python -m benchmarks run indexes --case "recall 0.95" --case "exact search of a million"
""")
@click.argument("names", metavar="[SUITE]...", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes: does everything work? Not for publication.")
@click.option(
    "--repeats", type=click.IntRange(min=1),
    help=f"Rounds that count.  [default: {FULL_REPEATS}, quick {QUICK_REPEATS}]",
)
@click.option(
    "--results", "file", type=FILE,
    help="JSONL file to append to.  [default: full.jsonl or quick.jsonl in benchmarks/results]",
)
@click.option(
    "--case", "parts", metavar="TEXT", multiple=True,
    help="Measure only cases whose name contains this; may be repeated.",
)
@click.option("--fresh", is_flag=True, help="Measure again what the file has of this commit.")
@click.option(
    "--peer", "peers", metavar="NAME", multiple=True,
    help="Measure only this peer beside ours; may be repeated.",
)
@click.option("--no-peers", is_flag=True, help="Measure only ours.")
@click.option(
    "--work", type=FOLDER,
    help="Folder for generated photos, vectors and indexes; kept.  "
    "[default: retrieval-benchmarks in the temporary folder]",
)
def run(
    names: tuple[str, ...], quick: bool, repeats: int | None, file: Path | None, fresh: bool,
    parts: tuple[str, ...], peers: tuple[str, ...], no_peers: bool, work: Path | None,
) -> None:
    """Measure suites (all of them if none is named), one JSON line for each contender.

    Interrupt it when you like: the same command goes on with the case that was running.
    """
    from retrieval.cli.output import print_rows

    if peers and no_peers:
        raise click.UsageError("Give --peer or --no-peers, not both.")
    names = tuple(dict.fromkeys(names)) or tuple(suites.names())
    chosen = {name: _named(suites.load(name).cases(quick), parts) for name in names}
    if not any(chosen.values()):
        raise BenchmarkError(f'No case of {", ".join(names)} has "{", ".join(parts)}" in its name.')
    every = [
        named for cases in chosen.values() for case in cases for named in case.contenders.items()
    ]
    _require_known(peers, {name for name, contender in every if not contender.ours})
    packages = {package for _, contender in every for package in contender.needs.values()}
    plan = runner.Plan(
        mode="quick" if quick else "full",
        repeats=repeats or (QUICK_REPEATS if quick else FULL_REPEATS),
        work=(work or Path(tempfile.gettempdir()) / "retrieval-benchmarks").absolute(),
        file=file or (results.QUICK if quick else results.FULL),
        facts=machine.facts(machine.threads_to_use(), packages),
        peers=peers if peers or no_peers else None,
        fresh=fresh,
        careful=not quick,
    )
    plan.work.mkdir(parents=True, exist_ok=True)
    outcome = runner.run(chosen, plan, _say)
    if outcome.measured:
        print_rows(
            ["suite", "case", "contender", "median", "least", "most", "unit", "times the peer"],
            [_row(line) for line in outcome.measured],
        )
    if outcome.failed:
        failed = ", ".join(title for title, _ in outcome.failed)
        raise BenchmarkError(f"Not measured, for the reasons above: {failed}.")


@cli.command(epilog="""\b
Examples:
  python -m benchmarks compare before.jsonl after.jsonl
  python -m benchmarks compare benchmarks/results/full.jsonl --commits 1a2b3c 4d5e6f
""")
@click.argument(
    "files", metavar="FILE [FILE]", nargs=-1, required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
)
@click.option("--commits", nargs=2, metavar="BEFORE AFTER", help="Two commits within one file.")
def compare(files: tuple[Path, ...], commits: tuple[str, str] | None) -> None:
    """What changed between two result files, or between two commits in one."""
    from retrieval.cli.output import print_rows

    if len(files) != (1 if commits else 2):
        raise click.UsageError("Name two files, or one file and --commits BEFORE AFTER.")
    sides = [results.read(file) for file in files]
    before, after = [comparison.of_commit(sides[0], one) for one in commits] if commits else sides
    found = comparison.changes(before, after)
    if not found:
        raise BenchmarkError(
            "The two have no result in common: same case, settings, mode, threads and device."
        )
    alone = comparison.unmatched(before, after)
    if alone:
        _say(f"{alone} results are on one side only, or were measured in another way.")
    print_rows(
        ["suite", "case", "contender", "unit", "before", "after", "change", "verdict"],
        [
            [*one[:4], f"{one.before:.4g}", f"{one.after:.4g}", f"{one.percent:+.1f} %", one.verdict]
            for one in found
        ],
    )


@cli.command(epilog="""\b
Examples:
  python -m benchmarks report
  python -m benchmarks report --check
""")
@click.option(
    "--results", "file", type=FILE, default=results.FULL,
    help="JSONL file to read.  [default: benchmarks/results/full.jsonl]",
)
@click.option(
    "--readme", type=FILE, default=README, help="README to fill in.  [default: README.md]"
)
@click.option(
    "--plots", type=FOLDER, default=PLOTS, help="Folder for SVG files.  [default: benchmarks/plots]"
)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 and name what is out of date.")
def report(file: Path, readme: Path, plots: Path, check: bool) -> None:
    """Write the tables of the README and the plots from a results file's full lines."""
    modules = {name: suites.load(name) for name in suites.names()}
    wanted = reporting.files(results.read(file), modules, readme, plots)
    if not check:
        for path in reporting.write(wanted):
            click.echo(path)
        return
    stale = reporting.stale(wanted)
    if stale:
        raise BenchmarkError(
            f"Out of date: {', '.join(map(str, stale))}. Run: python -m benchmarks report"
        )


def _row(line: results.Line) -> list[str]:
    low, high = line["spread"][line["unit"]]
    values = [f"{value:.4g}" for value in (line["metrics"][line["unit"]], low, high)]
    ratio = "" if line["ratio_to_peer"] is None else f"{line['ratio_to_peer']:.2f}"
    return [line["suite"], line["case"], line["contender"], *values, line["unit"], ratio]


def _named(cases: list[Case], parts: tuple[str, ...]) -> list[Case]:
    """The cases with one of the parts in their name; all where none is given."""
    return [case for case in cases if not parts or any(part in case.name for part in parts)]


def _require_known(peers: tuple[str, ...], known: set[str]) -> None:
    for peer in peers:
        if peer not in known:
            raise BenchmarkError(
                f'No suite chosen has a peer "{peer}". Peers: {", ".join(sorted(known))}.'
            )


def _say(sentence: str) -> None:
    click.echo(sentence, err=True)


def main() -> None:
    """Entry point: one sentence and exit status 1 for errors, 130 for an interrupt."""
    try:
        cli.main(prog_name="python -m benchmarks", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _say("Interrupted. What was measured is kept; the same command goes on from there.")
        sys.exit(130)
    except BenchmarkError as error:
        _say(f"Error: {error}")
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"Error: {where}{error.strerror or error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
