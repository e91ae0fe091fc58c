import pytest

from retrieval.report.axes import Axis, linear_ticks, log_ticks, tick_label


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (0, 100, [0, 20, 40, 60, 80, 100]),
    (69.2, 90.8, [70, 75, 80, 85, 90]),
    (0.0, 0.31, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
    (-3.1, 2.9, [-3, -2, -1, 0, 1, 2]),
    (9990, 10010, [9990, 9995, 10000, 10005, 10010]),
])
def test_linear_ticks(low, high, ticks):
    assert linear_ticks(low, high) == ticks


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (0.5, 20000, [1, 10, 100, 1000, 10000]),
    (0.02, 5, [0.03, 0.1, 0.3, 1, 3]),
    (0.9, 12, [1, 2, 5, 10]),
    (14, 72, [15, 20, 30, 40, 50, 60, 70]),
    (100, 104, [100, 101, 102, 103, 104]),
])
def test_log_ticks(low, high, ticks):
    assert log_ticks(low, high) == ticks


def test_every_range_has_a_few_ticks_inside():
    for exponent in range(-40, 40):
        low = 10 ** (exponent / 8)
        for ratio in (1.01, 1.3, 2, 7, 50, 3000):
            for ticks in (linear_ticks(low, low * ratio), log_ticks(low, low * ratio)):
                assert 2 <= len(ticks) <= 10 and ticks == sorted(set(ticks))
                assert low * (1 - 1e-6) <= ticks[0] and ticks[-1] <= low * ratio * (1 + 1e-6)


def test_places():
    assert Axis(0, 10, 100, 200).at(2.5) == 125
    assert Axis(0, 10, 300, 100).at(2.5) == 250  # turned round
    assert Axis(1, 100, 0, 200, log=True).at(10) == pytest.approx(100)


def test_an_axis_leaves_room():
    axis = Axis.around([10, 20], 0, 116)
    assert (axis.low, axis.high) == pytest.approx((9.2, 20.8))
    log = Axis.around([1, 100], 0, 116, log=True, margin=0.5)
    assert (log.low, log.high) == pytest.approx((0.1, 1000))
    for one in (Axis.around([5, 5], 0, 10), Axis.around([0], 0, 10), Axis.around([5], 0, 10, log=True)):
        assert one.at((one.low * one.high) ** 0.5 if one.log else (one.low + one.high) / 2) == pytest.approx(5)
        assert len(one.ticks()) >= 2


def test_no_logarithm_of_nothing():
    with pytest.raises(ValueError, match="0 has no place on a logarithmic axis"):
        Axis.around([0, 1], 0, 10, log=True)


@pytest.mark.parametrize(("value", "label"), [
    (0.001, "0.001"), (0.5, "0.5"), (0, "0"), (20, "20"), (5000, "5,000"), (2e6, "2M"), (3e9, "3G"), (100.5, "100.5"),
])
def test_tick_labels(value, label):
    assert tick_label(value) == label
