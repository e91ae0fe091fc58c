"""Runs cases: contenders in turns, medians, ratios to the peer, one result line for each."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import results, worker
from benchmarks.case import BenchmarkError, Case, LeftOut, Metrics

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How to run.

    repeats  rounds that count
    work     folder for generated photos, vectors and built indexes; kept, and used again
    file     the results file
    facts    of the run: commit, threads, device, versions (see machine.facts)
    peers    names of the peers to measure; None means every one
    fresh    measure again what the file has already
    careful  every contender in a process of its own, after warming up; False only tries whether
             they run: in this process, which loads libraries once, and with no warm-up
    """

    mode: str
    repeats: int
    work: Path
    file: Path
    facts: Mapping[str, Any]
    peers: Sequence[str] | None = None
    fresh: bool = False
    careful: bool = True

    def warm_up(self, case: Case) -> int:
        return case.warm_up if self.careful else 0


@dataclass(frozen=True)
class Outcome:
    """measured: the new lines. failed: (suite / case, reason)."""

    measured: list[results.Line]
    failed: list[tuple[str, str]]


def run(suites: Mapping[str, Sequence[Case]], plan: Plan, say: Say) -> Outcome:
    """Measure every case that the results file lacks; a case that fails does not stop the others.

    suites  {suite: cases}
    say     takes sentences about progress
    """
    known = [] if plan.fresh else results.read(plan.file)
    outcome = Outcome([], [])
    told: set[str] = set()
    with _environment(plan):
        for suite, cases in suites.items():
            for case in cases:
                title = f"{suite} / {case.name}"
                line_up = _line_up(case, plan, say, told)
                if not line_up:
                    say(f"{title}: skipped, for none of its contenders is here.")
                    continue
                if results.is_measured(known, _key(suite, case, plan), line_up):
                    say(f"{title}: measured before; --fresh measures again.")
                    continue
                try:
                    lines = _run_case(suite, case, line_up, plan, say)
                except BenchmarkError as error:
                    say(f"{title}: failed. {error}")
                    outcome.failed.append((title, str(error)))
                    continue
                results.append(plan.file, lines)
                outcome.measured.extend(lines)
    return outcome


def in_turns(
    case: Case, names: Sequence[str], repeats: int, plan: Plan, say: Say
) -> tuple[dict[str, list[Metrics]], list[str]]:
    """({contender: metrics of each round that counts}, contenders that cannot run here).

    Rounds go A B A B ..., so that a machine that slows down slows everybody down.
    Raises BenchmarkError naming the contender that failed.
    """
    left_out: list[str] = []
    with ExitStack() as stack:
        workers: dict[str, worker.ProcessWorker | worker.LocalWorker] = {}
        # The first one makes what all of them use; then the others prepare at the same time.
        for group in (names[:1], names[1:]):
            for name in group:
                one = worker.start(
                    case.contenders[name], case.settings, plan.work, plan.facts["threads"], plan.careful
                )
                workers[name] = stack.enter_context(closing(one))
            for name in group:
                try:
                    with _named(name):
                        workers[name].wait_until_prepared()
                except LeftOut as reason:
                    say(f"  {name} is left out: {reason}.")
                    left_out.append(name)
                    del workers[name]
        rounds: dict[str, list[Metrics]] = {name: [] for name in workers}
        warm_up = plan.warm_up(case)
        for turn in range(warm_up + repeats):
            for name, one in workers.items():
                with _named(name):
                    metrics = one.measure()
                if turn >= warm_up:
                    rounds[name].append(metrics)
        for name, one in workers.items():
            with _named(name):
                peak = one.peak_mib()
            if peak is not None:
                for metrics in rounds[name]:
                    metrics.setdefault("peak_mib", peak)  # a contender may know better
    return rounds, left_out


def medians(rounds: Sequence[Metrics]) -> Metrics:
    """The median of each metric over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def spread(rounds: Sequence[Metrics]) -> dict[str, list[float]]:
    """[least, most] of each metric over the rounds."""
    return {
        name: [min(one[name] for one in rounds), max(one[name] for one in rounds)]
        for name in rounds[0]
    }


def times_as_good(value: float, peer: float, better: str) -> float | None:
    """How many times as good as the peer: above 1 is better, whichever way the metric points.

        value / peer if higher is better, peer / value if lower is
    """
    above, below = (value, peer) if better == "higher" else (peer, value)
    return above / below if below else None


def _run_case(
    suite: str, case: Case, names: Sequence[str], plan: Plan, say: Say
) -> list[results.Line]:
    repeats = min(plan.repeats, case.most_repeats or plan.repeats)
    say(f"{suite} / {case.name}: {', '.join(names)}")
    begun = time.perf_counter()
    rounds, left_out = in_turns(case, names, repeats, plan, say)
    summaries = {name: medians(one) for name, one in rounds.items()}
    _require_agreement(case, summaries)
    peer = summaries.get(case.baseline, {}).get(case.unit)
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for name, metrics in summaries.items():
        say(f"  {name}: {metrics[case.unit]:.4g} {case.unit}")
    say(f"  {time.perf_counter() - begun:.0f} s in all")
    return [
        {
            **_key(suite, case, plan),
            "contender": name,
            "ours": case.contenders[name].ours,
            "unit": case.unit,
            "better": case.better,
            "baseline": case.baseline,
            "metrics": _rounded(metrics),
            "spread": {key: [_short(low), _short(high)] for key, (low, high) in spread(rounds[name]).items()},
            "ratio_to_peer": (
                None if peer is None else _short(times_as_good(metrics[case.unit], peer, case.better))
            ),
            "repeats": repeats,
            "warm_up": plan.warm_up(case),
            "line_up": list(summaries),
            "left_out": left_out,
            "date": date,
            "versions": plan.facts["versions"],
        }
        for name, metrics in summaries.items()
    ]


def _line_up(case: Case, plan: Plan, say: Say, told: set[str]) -> list[str]:
    """The contenders that are wanted and installed; says once what is not."""
    names = []
    for name, contender in case.contenders.items():
        if not contender.ours and plan.peers is not None and name not in plan.peers:
            continue
        missing = contender.missing()
        if not missing:
            names.append(name)
        elif name not in told:
            told.add(name)
            say(f"{name} is not installed and left out. To include it: pip install {' '.join(missing)}")
    return names


def _key(suite: str, case: Case, plan: Plan) -> dict[str, Any]:
    return {
        "suite": suite,
        "case": case.name,
        "settings": results.as_json(dict(case.settings)),
        "mode": plan.mode,
        **{field: plan.facts[field] for field in ("commit", "dirty", "threads", "device")},
    }


def _require_agreement(case: Case, summaries: Mapping[str, Metrics]) -> None:
    for metric, tolerance in case.agree.items():
        values = {name: metrics[metric] for name, metrics in summaries.items()}
        if values and max(values.values()) - min(values.values()) > tolerance:
            found = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
            raise BenchmarkError(f"The contenders disagree on {metric}: {found}.")


@contextmanager
def _named(contender: str) -> Iterator[None]:
    try:
        yield
    except worker.ContenderFailed as error:
        raise BenchmarkError(f"{contender}: {error}.") from error


@contextmanager
def _environment(plan: Plan) -> Iterator[None]:
    """What workers inherit: the thread count, no settings of the user's, no network."""
    before = dict(os.environ)
    threads = str(plan.facts["threads"])
    for name in [name for name in os.environ if name.startswith("RETRIEVAL_")]:
        if not name.startswith("RETRIEVAL_BENCH_"):  # which say where peers are
            del os.environ[name]
    os.environ.update(
        {name: threads for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")},
        RETRIEVAL_CACHE=str(plan.work / "cache"),
        HF_HUB_OFFLINE="1",
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _rounded(metrics: Metrics) -> Metrics:
    return {name: _short(value) for name, value in metrics.items()}


def _short(value: float | None) -> float | None:
    """Five digits: more would be noise in the results file."""
    return None if value is None else float(f"{value:.5g}")
