import pytest

from benchmarks import timing


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 5), (90, 9), (91, 10), (95, 10), (99, 10), (100, 10), (1, 1)]
)
def test_nearest_rank(percent, value):
    assert timing.percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], percent) == value


def test_latencies_are_in_milliseconds(monkeypatch):
    clock = iter([0.0, 0.001, 5.0, 5.003, 6.0, 6.002])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    seen = []
    found = timing.latencies(seen.append, ["a", "b", "c"])
    assert seen == ["a", "b", "c"]
    assert found == pytest.approx({"p50_ms": 2, "p95_ms": 3, "p99_ms": 3})


def test_what_is_noted_is_in_milliseconds(monkeypatch):
    clock = iter([1.0, 1.004, 7.0, 7.001])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    call, taken = timing.noted(lambda a, b: a + b)
    assert [call(1, 2), call(3, 4)] == [3, 7]
    assert taken == pytest.approx([4, 1])
