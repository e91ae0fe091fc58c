import pytest

from benchmarks import compare
from benchmarks.case import BenchmarkError


def with_spread(line, low, high, **changed):
    return line | {"spread": {line["unit"]: [low, high]}} | changed


@pytest.mark.parametrize(
    ("before", "after", "better", "percent", "verdict"),
    [
        ((20, 18, 22), (30, 25, 35), "higher", 50, "better"),
        ((20, 18, 22), (30, 25, 35), "lower", 50, "worse"),
        ((20, 18, 22), (15, 14, 17), "higher", -25, "worse"),
        ((20, 18, 22), (15, 14, 17), "lower", -25, "better"),
        ((20, 18, 22), (25, 22, 29), "higher", 25, "within spread"),  # they touch
    ],
)
def test_a_change_counts_beyond_the_spread_of_the_repeats(make_line, before, after, better, percent, verdict):
    sides = [[with_spread(make_line(rate=rate, better=better), low, high)] for rate, low, high in (before, after)]
    assert compare.changes(*sides) == [
        ("search", "scan", "ours", "queries_per_second", before[0], after[0], percent, verdict)
    ]


def test_one_repeat_has_no_spread_to_judge_by(make_line):
    sides = [[make_line(rate=rate, repeats=1)] for rate in (10, 100)]
    assert compare.changes(*sides)[0].verdict == "one repeat"


def test_only_like_is_compared_with_like_and_the_last_line_counts(make_line):
    before = [make_line(rate=1), make_line(rate=10), make_line("peer", rate=5), make_line(case="gone")]
    after = [make_line(rate=11), make_line("peer", rate=5, threads=1)]
    found = compare.changes(before, after)
    assert [(one.contender, one.before, one.after) for one in found] == [("ours", 10, 11)]
    assert compare.unmatched(before, after) == 3  # the peer on both sides, and the case that is gone


def test_commits_by_the_beginning_of_their_hash(make_line):
    lines = [make_line(rate=1, commit="abc1"), make_line(rate=2, commit="abd2")]
    assert compare.of_commit(lines, "abc") == lines[:1]
    with pytest.raises(BenchmarkError, match="^Commit ab is ambiguous. Commits in the file: abc1, abd2.$"):
        compare.of_commit(lines, "ab")
    with pytest.raises(BenchmarkError, match="^Commit f has no results there. Commits in the file: abc1, abd2.$"):
        compare.of_commit(lines, "f")
