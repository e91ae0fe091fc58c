import json

import pytest

from benchmarks import results
from benchmarks.case import BenchmarkError


def test_what_is_appended_is_read_in_order(tmp_path, make_line):
    file = tmp_path / "new" / "r.jsonl"
    results.append(file, [make_line("ours"), make_line("peer")])
    results.append(file, [make_line("later")])
    assert results.read(file) == [make_line("ours"), make_line("peer"), make_line("later")]
    assert len(file.read_text().splitlines()) == 3


def test_no_file_no_lines(tmp_path):
    assert results.read(tmp_path / "r.jsonl") == []


def test_a_torn_last_line_is_not_read_and_goes_with_the_next_append(tmp_path, make_line):
    file = tmp_path / "r.jsonl"
    whole = json.dumps(make_line("ours"))
    file.write_text(f"{whole}\n{whole[:50]}")
    assert results.read(file) == [make_line("ours")]
    results.append(file, [make_line("peer")])
    assert results.read(file) == [make_line("ours"), make_line("peer")]


def test_a_last_line_without_line_break_is_kept(tmp_path, make_line):
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps(make_line("ours")))
    assert results.read(file) == [make_line("ours")]
    results.append(file, [make_line("peer")])
    assert results.read(file) == [make_line("ours"), make_line("peer")]


@pytest.mark.parametrize("text", ["{half\n", "[1]\n", '{"suite": "x"}\n'])
def test_a_line_that_is_no_result_is_named(tmp_path, make_line, text):
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps(make_line()) + "\n" + text)
    with pytest.raises(BenchmarkError, match=r"r\.jsonl, line 2 is not a benchmark result"):
        results.read(file)


def test_a_case_counts_as_measured_with_all_of_its_line_up(make_line):
    key = {"suite": "search", "settings": {"n": 10}}
    both = [make_line("ours"), make_line("peer")]
    assert results.is_measured(both, key, ["ours"])
    assert results.is_measured(both, key, ["ours", "peer"])
    assert not results.is_measured(both, key, ["ours", "third"])
    assert not results.is_measured(both[:1], key, ["ours"])  # a run cut off between two lines
    assert not results.is_measured(both, key | {"suite": "other"}, ["ours"])
    assert not results.is_measured([], key, ["ours"])
