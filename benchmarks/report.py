"""README tables and plots, from the full lines of a results file and from nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import plot
from benchmarks.case import BenchmarkError
from benchmarks.results import Line
from benchmarks.suites import heading

EVERY_SUITE = "all"  # a region of this name holds one table for each suite
NOTHING = "Not measured in full yet: `make bench` does it."

_REGION = re.compile(
    r"(<!-- benchmarks:begin (?P<name>\S+) -->\n).*?(<!-- benchmarks:end (?P=name) -->)", re.DOTALL
)
_BEGIN = re.compile(r"<!-- benchmarks:begin (\S+) -->")


def files(
    lines: Sequence[Line], suites: Mapping[str, ModuleType], readme: Path, plots: Path
) -> dict[Path, str | None]:
    """What every generated file should hold; None for a plot that should not be there.

    Raises BenchmarkError if the README has no region, or one that is broken or of no suite.
    """
    wanted: dict[Path, str | None] = {path: None for path in plots.glob("*.svg")}
    sections = {}
    for name, suite in suites.items():
        drawn = _plots(name, suite, lines)
        wanted.update({plots / file: text for file, text in drawn.items()})
        links = [_relative(plots, readme) + file for file in drawn]
        sections[name] = _section(name, suite, lines, links)
    wanted[readme] = _filled(readme, sections, suites)
    return wanted


def stale(wanted: Mapping[Path, str | None]) -> list[Path]:
    """The files that differ from what they should hold."""
    return [path for path, text in wanted.items() if _content(path) != text]


def write(wanted: Mapping[Path, str | None]) -> list[Path]:
    """Bring files up to date; return those that changed."""
    changed = stale(wanted)
    for path in changed:
        text = wanted[path]
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return changed


def newest(suite: str, module: ModuleType, lines: Sequence[Line]) -> dict[str, list[Line]]:
    """{machine: lines} of a suite's cases, as they are now, in their order.

    Each case comes from its last full run on that machine, so that its contenders stood side by
    side; a case that the suite no longer has is not shown.
    """
    runs: dict[str, dict[str, list[Line]]] = {}
    for line in lines:
        if line["mode"] == "full" and line["suite"] == suite:
            of_machine = runs.setdefault(_machine(line), {})
            before = of_machine.get(line["case"], [])
            same_run = before and all(before[0][key] == line[key] for key in ("commit", "date"))
            of_machine[line["case"]] = [*before, line] if same_run else [line]
    order = [case.name for case in module.cases(quick=False)]
    return {
        machine: [line for name in order for line in of_machine.get(name, [])]
        for machine, of_machine in runs.items()
    }


def shown_number(value: float) -> str:
    """Three digits, and no more after the point than they need: 1,234 and 56.7 and 0.0891."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def title_of(metric: str) -> str:
    """images_per_second -> images/s, p50_ms -> p50 ms, peak_mib -> peak MiB."""
    return metric.replace("_per_second", "/s").replace("_mib", " MiB").replace("_", " ")


def _section(name: str, suite: ModuleType, lines: Sequence[Line], links: Sequence[str]) -> str:
    parts = []
    for machine, found in newest(name, suite, lines).items():
        if found:
            commits = ", ".join(dict.fromkeys(map(_commit, found)))
            parts.append(f"On {machine}; commit {commits}.\n\n{_table(suite, found)}")
    parts += [f"![{suite.PLOT[0]}]({link})" for link in links]
    return "\n\n".join(parts) or NOTHING


def _table(suite: ModuleType, lines: Sequence[Line]) -> str:
    headline = {case.name for case in suite.cases(quick=False) if case.headline}
    lines = [line for line in lines if line["case"] in headline]
    extra = [name for name in (*suite.SHOWN, "peak_mib") if any(name in line["metrics"] for line in lines)]
    rows = [["case", "contender", "result", "times the peer", *map(title_of, extra)]]
    rows.append(["---", "---", *["---:"] * (len(rows[0]) - 2)])
    for before, line in zip([None, *lines], lines):
        metrics, ratio = line["metrics"], line["ratio_to_peer"]
        rows.append([
            "" if before and before["case"] == line["case"] else line["case"],
            f"**{line['contender']}**" if line["ours"] else line["contender"],
            f"{shown_number(metrics[line['unit']])} {title_of(line['unit'])}",
            "" if ratio is None else "peer" if line["contender"] == line["baseline"] else f"{ratio:.2f}",
            *(shown_number(metrics[name]) if name in metrics else "" for name in extra),
        ])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _plots(name: str, suite: ModuleType, lines: Sequence[Line]) -> dict[str, str]:
    """{file name: SVG}, one for each machine that the suite was measured on."""
    if not hasattr(suite, "plotted"):
        return {}
    drawn = {}
    for machine, found in newest(name, suite, lines).items():
        series: dict[str, list[tuple[float, float]]] = {}
        for point in filter(None, map(suite.plotted, found)):
            series.setdefault(point[0], []).append(point[1:])
        if series:
            title, x_label, y_label = suite.PLOT
            file = f"{name}-{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.svg"
            drawn[file] = plot.svg(f"{title}: {machine}", x_label, y_label, series)
    return drawn


def _filled(readme: Path, sections: Mapping[str, str], suites: Mapping[str, ModuleType]) -> str:
    if not readme.exists():
        raise BenchmarkError(f"There is no {readme}. Name the README with --readme.")
    text = readme.read_text(encoding="utf-8")
    begun = _BEGIN.findall(text)
    if not begun or begun != [found["name"] for found in _REGION.finditer(text)]:
        raise BenchmarkError(
            f"{readme} needs lines <!-- benchmarks:begin NAME --> and <!-- benchmarks:end NAME -->, "
            f"each pair around what is generated; found begun: {', '.join(begun) or 'none'}."
        )
    unknown = [name for name in begun if name != EVERY_SUITE and name not in sections]
    if unknown:
        raise BenchmarkError(
            f"{readme} has a region for {unknown[0]}. Regions: {', '.join([EVERY_SUITE, *sections])}."
        )
    every = "\n\n".join(
        f"**{heading(suites[name])}**\n\n{one}" for name, one in sections.items() if one != NOTHING
    )
    content = {**sections, EVERY_SUITE: every or NOTHING}
    return _REGION.sub(lambda found: f"{found[1]}{content[found['name']]}\n{found[3]}", text)


def _machine(line: Line) -> str:
    device, threads = line["device"], line["threads"]
    gpu = "no GPU" if device["gpu"] == "none" else device["gpu"]
    return f"{device['cpu']}, {threads} core{'s' if threads > 1 else ''}, {gpu}"


def _commit(line: Line) -> str:
    return line["commit"] + (" with changes" if line["dirty"] else "")


def _relative(plots: Path, readme: Path) -> str:
    return Path(os.path.relpath(plots, readme.parent)).as_posix() + "/"


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
