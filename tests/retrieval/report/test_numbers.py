from math import inf, nan

import pytest

from retrieval.report import numbers


@pytest.mark.parametrize(("show", "value", "shown"), [
    (numbers.percent, 0.98765, "98.8"), (numbers.percent, 1.0, "100.0"), (numbers.percent, nan, "–"),
    (numbers.percent, -0.012, "−1.2"), (numbers.percent, -0.0001, "0.0"),
    (numbers.fraction, 0.98765, "0.988"),
    (numbers.rank, 7.0, "7"), (numbers.rank, 7.5, "7.5"), (numbers.rank, 1234.0, "1,234"), (numbers.rank, inf, "∞"),
    (numbers.decimal, 1234.56, "1,234.6"),
    (numbers.measured, 0.012345, "0.0123"), (numbers.measured, 1.2, "1.2"), (numbers.measured, 12.345, "12.3"),
    (numbers.measured, 123.45, "123"), (numbers.measured, 20.0, "20"), (numbers.measured, 12345.6, "12,346"),
    (numbers.measured, 0.0, "0"), (numbers.measured, nan, "–"),
])
def test_shown(show, value, shown):
    assert show(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0.012, "+1.2"), (-0.012, "−1.2"), (-0.0004, "0.0"), (nan, "–")])
def test_signed(value, shown):
    assert numbers.signed(numbers.percent)(value) == shown


def test_words():
    assert numbers.plural(1, "query", "queries") == "1 query"
    assert numbers.plural(1200, "query", "queries") == "1,200 queries"
    assert numbers.plural(0, "image") == "0 images"
    assert numbers.direction("text_to_image", "de") == "Text to image, de"
    assert numbers.direction("image_to_text") == "Image to text"


@pytest.mark.parametrize(
    ("values", "better", "best"),
    [
        ([0.1234, 0.1236, 0.5], max, "50.0"), ([0.1234, 0.1236, 0.5], min, "12.3"),
        ([0.5001, 0.5004], max, None),  # both read 50.0
        ([0.5, nan], max, None), ([0.2, nan, 0.1], max, "20.0"), ([], max, None),
    ],
)
def test_the_best_is_told_from_what_readers_see(values, better, best):
    assert numbers.best_shown(values, numbers.percent, better) == best
