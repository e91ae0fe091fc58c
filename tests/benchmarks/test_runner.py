import json
import os

import pytest

from benchmarks import results, runner
from benchmarks.case import Case, Contender, LeftOut

FACTS = {
    "commit": "aaa111", "dirty": False, "threads": 2,
    "device": {"cpu": "Test CPU", "cores": 2, "gpu": "none"}, "versions": {"python": "3"},
}


@pytest.fixture
def log():
    """What happened, in order."""
    return []


@pytest.fixture
def contender(log):
    """A contender in this process that returns the given numbers, round after round."""

    def make(name, rates, *, ours=False, needs=None, prepare=None):
        def prepared(settings, work):
            log.append(f"prepare {name}")
            left = iter(rates)

            def measure():
                log.append(name)
                return {"images_per_second": next(left)}

            return measure

        return Contender(prepare or prepared, ours=ours, needs=needs or {}, isolated=False)

    return make


@pytest.fixture
def case(contender):
    def make(name="embed", ours=(99, 30, 10, 20), peer=(99, 5, 4, 9), **changed):
        fields = {
            "settings": {"batch": (8, 2)}, "unit": "images_per_second", "better": "higher",
            "baseline": "peer",
            "contenders": {"ours": contender("ours", ours, ours=True), "peer": contender("peer", peer)},
        }
        return Case(name, **{**fields, **changed})

    return make


@pytest.fixture
def plan(tmp_path):
    def make(**changed):
        fields = {"mode": "quick", "repeats": 3, "work": tmp_path, "file": tmp_path / "r.jsonl", "facts": FACTS}
        return runner.Plan(**{**fields, **changed})

    return make


def test_a_run_that_only_tries_things_out_does_not_warm_up(case, plan, log):
    found = runner.run({"demo": [case(ours=[30], peer=[5], warm_up=2)]}, plan(repeats=1, careful=False), log.append)
    assert [(line["warm_up"], line["metrics"]["images_per_second"]) for line in found.measured] == [(0, 30), (0, 5)]
    assert log.count("ours") == log.count("peer") == 1


def test_contenders_take_turns_and_warm_up_rounds_do_not_count(case, plan, log):
    outcome = runner.run({"encoders": [case()]}, plan(), [].append)
    assert log == ["prepare ours", "prepare peer", *["ours", "peer"] * 4]
    ours, peer = outcome.measured
    assert ours["metrics"] == {"images_per_second": 20}  # the median of 30, 10, 20
    assert ours["spread"] == {"images_per_second": [10, 30]}
    assert peer["metrics"] == {"images_per_second": 5}
    assert (ours["ratio_to_peer"], peer["ratio_to_peer"]) == (4, 1)


def test_a_line_has_every_field(case, plan):
    plan = plan()
    runner.run({"encoders": [case()]}, plan, [].append)
    ours, peer = [json.loads(text) for text in plan.file.read_text().splitlines()]
    date = ours.pop("date")
    assert date.endswith("+00:00") and date == peer["date"]
    assert ours == {
        "suite": "encoders", "case": "embed", "settings": {"batch": [8, 2]}, "mode": "quick", **FACTS,
        "contender": "ours", "ours": True, "unit": "images_per_second", "better": "higher",
        "baseline": "peer", "metrics": {"images_per_second": 20.0},
        "spread": {"images_per_second": [10.0, 30.0]}, "ratio_to_peer": 4.0, "repeats": 3,
        "warm_up": 1, "line_up": ["ours", "peer"], "left_out": [],
    }


@pytest.mark.parametrize(
    ("value", "peer", "better", "ratio"),
    [(30, 10, "higher", 3), (30, 10, "lower", 1 / 3), (0, 10, "lower", None), (5, 0, "higher", None)],
)
def test_above_one_is_better_whichever_way_the_metric_points(value, peer, better, ratio):
    assert runner.times_as_good(value, peer, better) == ratio


def test_median_of_an_even_number_of_rounds():
    rounds = [{"seconds": 4.0, "p50_ms": 1.0}, {"seconds": 1.0, "p50_ms": 2.0}]
    assert runner.medians(rounds) == {"seconds": 2.5, "p50_ms": 1.5}
    assert runner.spread(rounds) == {"seconds": [1.0, 4.0], "p50_ms": [1.0, 2.0]}


def test_a_case_may_limit_its_repeats(case, plan, log):
    outcome = runner.run({"encoders": [case(most_repeats=1, warm_up=0)]}, plan(), [].append)
    assert log[2:] == ["ours", "peer"]
    assert [(line["repeats"], line["warm_up"]) for line in outcome.measured] == [(1, 0)] * 2


def test_an_interrupted_run_loses_the_running_case_only(case, plan, log, contender):
    def interrupted(settings, work):
        raise KeyboardInterrupt

    plan = plan()
    stuck = case("second", contenders={"ours": contender("ours", (), ours=True, prepare=interrupted)}, baseline=None)
    with pytest.raises(KeyboardInterrupt):
        runner.run({"encoders": [case("first"), stuck]}, plan, [].append)
    assert [line["case"] for line in results.read(plan.file)] == ["first", "first"]
    log.clear()
    said = []
    outcome = runner.run({"encoders": [case("first"), case("second")]}, plan, said.append)
    assert said[0] == "encoders / first: measured before; --fresh measures again."
    assert [line["case"] for line in outcome.measured] == ["second", "second"]
    assert log == ["prepare ours", "prepare peer", *["ours", "peer"] * 4]
    assert [line["case"] for line in results.read(plan.file)] == ["first", "first", "second", "second"]


@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "full"},
        {"facts": FACTS | {"commit": "bbb222"}},
        {"facts": FACTS | {"dirty": True}},
        {"facts": FACTS | {"threads": 1}},
        {"facts": FACTS | {"device": {"cpu": "Other CPU", "cores": 2, "gpu": "none"}}},
        {"fresh": True},
    ],
)
def test_what_makes_a_case_new(case, plan, changed):
    runner.run({"encoders": [case()]}, plan(), [].append)
    assert runner.run({"encoders": [case()]}, plan(), [].append).measured == []
    again = runner.run({"encoders": [case()]}, plan(**changed), [].append)
    assert [line["contender"] for line in again.measured] == ["ours", "peer"]


def test_other_settings_make_a_case_new(case, plan):
    runner.run({"encoders": [case()]}, plan(), [].append)
    again = runner.run({"encoders": [case(settings={"batch": [8, 3]})]}, plan(), [].append)
    assert [line["settings"] for line in again.measured] == [{"batch": [8, 3]}] * 2


def test_a_missing_peer_is_told_once_with_what_installs_it(case, contender, plan):
    contenders = {
        "ours": contender("ours", (1, 2) * 9, ours=True),
        "rival": contender("rival", (), needs={"no_such_module_here": "rival-index"}),
    }
    cases = [case(name, contenders=contenders, baseline="rival") for name in ("one", "two")]
    said = []
    outcome = runner.run({"encoders": cases}, plan(repeats=1), said.append)
    assert [line for line in said if "rival" in line] == [
        "rival is not installed and left out. To include it: pip install rival-index"
    ]
    assert [(line["contender"], line["line_up"], line["ratio_to_peer"]) for line in outcome.measured] == [
        ("ours", ["ours"], None)
    ] * 2
    assert outcome.failed == []


def test_a_peer_that_was_installed_since_brings_the_case_back(case, contender, plan):
    runner.run({"encoders": [case()]}, plan(peers=()), [].append)
    outcome = runner.run({"encoders": [case()]}, plan(), [].append)
    assert [line["line_up"] for line in outcome.measured] == [["ours", "peer"]] * 2


def test_a_contender_that_cannot_run_here_is_left_out_and_not_tried_again(case, contender, plan, log):
    def no_gpu(settings, work):
        log.append("asked for a GPU")
        raise LeftOut("there is no GPU")

    contenders = {"ours": contender("ours", (1, 2), ours=True), "peer": contender("peer", (), prepare=no_gpu)}
    said = []
    [line] = runner.run({"encoders": [case(contenders=contenders)]}, plan(repeats=1), said.append).measured
    assert "  peer is left out: there is no GPU." in said
    assert (line["line_up"], line["left_out"], line["metrics"]) == (["ours"], ["peer"], {"images_per_second": 2})
    assert runner.run({"encoders": [case(contenders=contenders)]}, plan(repeats=1), said.append).measured == []
    assert log.count("asked for a GPU") == 1


def test_only_the_peers_asked_for_are_measured(case, plan, log):
    runner.run({"encoders": [case()]}, plan(peers=("somebody else",)), [].append)
    assert set(log) == {"prepare ours", "ours"}


def test_contenders_that_must_agree(case, plan):
    kept = case("near", agree={"images_per_second": 15})
    failing = case("far", agree={"images_per_second": 14.9})
    said = []
    outcome = runner.run({"encoders": [failing, kept]}, plan(), said.append)
    reason = "The contenders disagree on images_per_second: ours 20, peer 5."
    assert outcome.failed == [("encoders / far", reason)]
    assert f"encoders / far: failed. {reason}" in said
    assert [line["case"] for line in outcome.measured] == ["near", "near"]


def test_a_failing_contender_is_named_and_the_next_case_runs(case, contender, plan):
    short = {"ours": contender("ours", (1,), ours=True), "peer": contender("peer", (1, 2, 3, 4))}
    outcome = runner.run({"encoders": [case("bad", contenders=short), case("good")]}, plan(), [].append)
    [(title, reason)] = outcome.failed
    assert title == "encoders / bad" and reason.startswith("ours: StopIteration")
    assert [line["case"] for line in outcome.measured] == ["good", "good"]


def test_workers_get_threads_and_a_cache_of_their_own(case, contender, plan, monkeypatch, tmp_path):
    monkeypatch.setenv("RETRIEVAL_MODEL", "somebody's")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = {}

    def look(settings, work):
        seen.update(os.environ)
        return lambda: {"images_per_second": 1}

    contenders = {"ours": contender("ours", (), ours=True, prepare=look)}
    runner.run({"encoders": [case(contenders=contenders, baseline=None)]}, plan(repeats=1), [].append)
    assert seen["OMP_NUM_THREADS"] == seen["OPENBLAS_NUM_THREADS"] == "2"
    assert seen["RETRIEVAL_CACHE"] == str(tmp_path / "cache") and "RETRIEVAL_MODEL" not in seen
    assert (os.environ["OMP_NUM_THREADS"], os.environ["RETRIEVAL_MODEL"]) == ("7", "somebody's")


@pytest.mark.parametrize(("field", "value"), [("better", "faster"), ("baseline", "nobody")])
def test_a_case_refuses_what_it_cannot_mean(case, field, value):
    with pytest.raises(ValueError, match=value):
        case(**{field: value})
