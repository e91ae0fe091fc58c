from datetime import datetime

import pytest

from retrieval.dates import span


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", (2024, 1, 1), (2025, 1, 1)),
        ("2024-02", (2024, 2, 1), (2024, 3, 1)),
        ("2024-12", (2024, 12, 1), (2025, 1, 1)),
        ("2024-02-29", (2024, 2, 29), (2024, 3, 1)),
        ("2024-6-1", (2024, 6, 1), (2024, 6, 2)),
        ("2024-12-31T23:59", (2024, 12, 31, 23, 59), (2025, 1, 1)),
        (" 2024-06-01 12:30:59 ", (2024, 6, 1, 12, 30, 59), (2024, 6, 1, 12, 31)),
    ],
)
def test_a_date_is_all_the_time_that_it_names(text, start, end):
    assert span(text) == (datetime(*start), datetime(*end))


def test_the_last_year_has_an_end():
    for text in ("9999", "9999-12", "9999-12-31"):
        assert span(text)[1] == datetime.max


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2023-02-29", "there is no date 2023-02-29 "),
        ("2024-13", "there is no date 2024-13 "),
        ("0000", "there is no date 0000 "),
        ("2024-06-01T25:00", "there is no date 2024-06-01T25:00 "),
        ("june", "'june' is no date; write 2024, 2024-06, 2024-06-01 or 2024-06-01T12:30"),
        ("2024-06-01T12:30Z", "is no date"),
        ("24", "is no date"),
        ("", "is no date"),
    ],
)
def test_impossible(text, said):
    with pytest.raises(ValueError) as caught:
        span(text)
    assert said in str(caught.value)
