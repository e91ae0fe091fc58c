import pickle
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import suites, timing
from benchmarks.case import LeftOut
from benchmarks import flickr8k
from benchmarks.suites import composed, nothing, scale
from benchmarks.suites import indexes as index_suite
from benchmarks.suites.indexes import cheapest, overlap, read_ms
from benchmarks.suites.server import recall
from benchmarks.suites.tuning import hit
from retrieval.types import Hit

NAMES = suites.names()


def test_a_suite_is_a_file_in_the_folder():
    assert NAMES == sorted(NAMES)
    assert {"encoders", "evaluation", "indexes", "ingestion", "queries", "scale", "server"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quick", [True, False])
def test_every_case_has_us_and_a_name_of_its_own(name, quick):
    cases = suites.load(name).cases(quick)
    names = [case.name for case in cases]
    assert names and len(set(names)) == len(names)
    for case in cases:
        assert any(contender.ours for contender in case.contenders.values()), case.name
        assert case.baseline is None or not case.contenders[case.baseline].ours, case.name


@pytest.mark.parametrize("name", NAMES)
def test_every_contender_can_be_sent_to_a_process_of_its_own(name):
    """Which a quick run does not try."""
    for case in suites.load(name).cases(quick=False):
        for contender in case.contenders.values():
            again = pickle.loads(pickle.dumps((contender.prepare, dict(case.settings))))
            assert again[1] == case.settings


def test_listing_cases_loads_nothing_heavy():
    """What the runner has loaded would be there before a contender is."""
    probe = (
        "import sys; from benchmarks import __main__, suites; "
        "[suites.load(name).cases(quick) for name in suites.names() for quick in (True, False)]; "
        "print([one for one in ('torch', 'faiss', 'numpy', 'PIL', 'open_clip') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_overlap_is_the_share_of_the_truth_that_is_found():
    rows = np.array([[3, 1, 2], [7, -1, -1]])
    truth = np.array([[1, 2, 9], [7, 8, 9]])
    assert overlap(rows, truth) == 3 / 6


class Stairs:
    """Finds as many of the rows 0, 1, 2, ... as its setting says, and takes that long."""

    settings = (({"wide": 1}, {"wide": 3}, {"wide": 4}), ({"wide": 2, "slow": 5},), ({"wide": 0},))

    def search(self, index, queries, k, wide, slow=0):
        return np.array([[row if row < wide else -1 for row in range(k)]])


def test_the_cheapest_setting_that_reaches_the_recall(monkeypatch):
    truth = np.array([[0, 1, 2, 3]])
    taken = iter([2.0, 1.0])
    monkeypatch.setattr(timing, "seconds", lambda call: next(taken))
    assert cheapest(Stairs(), None, None, truth, 0.5) == {"wide": 2, "slow": 5}
    taken = iter([2.0])
    assert cheapest(Stairs(), None, None, truth, 0.75) == {"wide": 3}
    with pytest.raises(LeftOut, match="it reaches a recall of 0.7500 at most"):
        monkeypatch.setattr(Stairs, "settings", (({"wide": 3},),))
        cheapest(Stairs(), None, None, truth, 1.0)


def test_a_race_measures_a_contender_where_it_reaches_the_recall(tmp_path):
    settings = {"what": "race", "target": 0.9, "n": 3000, "dim": 512, "k": 5, "seed": 0, "queries": 30,
                "single_queries": 2}
    found = {name: index_suite.search(name, settings, tmp_path)() for name in ("ours", "faiss HNSW")}
    for metrics in found.values():
        assert 0.9 <= metrics["recall"] <= 1 and metrics["image_recall"] > 0.7
    assert found["faiss HNSW"]["efSearch"] >= 16 and found["ours"]["nprobe"] >= 2
    # The vectors themselves, 2 or 4 bytes a value, and what the index adds.
    assert 1024 < found["ours"]["bytes_per_vector"] < 2048 + 256 < found["faiss HNSW"]["bytes_per_vector"]


def test_recall_of_a_server_is_the_share_of_what_was_expected():
    assert recall([["a", "b"], ["c"], []], [["b", "a"], ["c", "d"], ["e", "f"]]) == 3 / 6


def test_searches_at_scale_find_what_numpy_finds(tmp_path):
    settings = {"n": 300, "k": 5, "queries": 3}
    found = [
        prepare(settings, tmp_path)()["rows_found"]
        for prepare in (scale.search_ours, scale.search_numpy, scale.open_ours, scale.open_numpy)
    ]
    assert found[0] == found[1] > 0 and found[2] == found[3] > 0


def test_reading_once_reads_the_whole_file(tmp_path, monkeypatch):
    np.arange(100).tofile(tmp_path / "vectors")
    read = []

    def latencies(call, arguments):
        read.extend(int(call(one)) for one in arguments)
        return {"p50_ms": 1.5}

    monkeypatch.setattr(timing, "latencies", latencies)
    assert read_ms(tmp_path / "vectors", times=3) == 1.5
    assert read == [4950] * 3


@pytest.mark.parametrize(("reached", "cheaper", "expected"), [
    (0.95, None, True), (0.9401, None, True), (0.9399, None, False), (0.9599, 0.959, True),
    (0.97, 0.949, True), (0.97, 0.951, False), (0.97, None, False),
])
def test_a_tuned_index_hits_its_target_within_a_hundredth(reached, cheaper, expected):
    """Above that too, where the next cheaper setting would miss."""
    assert hit(0.95, reached, cheaper) is expected
def test_composed_queries_are_left_out_where_there_are_no_photos(tmp_path, monkeypatch):
    monkeypatch.delenv(flickr8k.FOLDER, raising=False)
    with pytest.raises(LeftOut, match="FLICKR8K names no folder"):
        composed.found({}, tmp_path, "both")
    monkeypatch.setenv(flickr8k.FOLDER, str(tmp_path))
    with pytest.raises(LeftOut, match="flickr8k/test.tar is not in"):
        composed.found({}, tmp_path, "both")


def test_ranks_leave_out_the_caption_that_was_asked_with():
    hits = [Hit("", rank, 0.5, name, f"/x/{name}", caption) for rank, (name, caption) in enumerate(
        [("a.jpg", "asked"), ("b.jpg", "other"), ("a.jpg", "another")], 1)]
    assert composed._rank(hits, "a.jpg", "asked") == 1
    assert composed._rank(hits, "b.jpg", "other") is None
    images = [Hit("", 1, 0.5, "a.jpg", "/x/a.jpg"), Hit("", 2, 0.4, "b.jpg", "/x/b.jpg")]
    assert [composed._rank(images, name, "asked") for name in ("a.jpg", "b.jpg", "c.jpg")] == [0, 1, None]


def test_recall_in_percent_with_intervals_over_photos():
    found = composed._recalls([0, 0, 5, None], ["a", "a", "b", "b"])
    assert (found["r1"], found["r10"]) == (50, 75)
    assert found["r1_low"] == 0 and found["r1_high"] == 100 and found["r10_low"] == 50


def test_shares_of_queries_with_a_match_and_without():
    """Two subjects of two queries each; shown are 3 of 4 with a match, and 1 of 4 without."""
    there, gone = np.array([True, True, True, False]), np.array([False, False, True, False])
    found = nothing.shares(there, gone, np.array([0, 0, 1, 1]))
    assert (found["precision"], found["recall"], found["rejected"]) == (75.0, 75.0, 75.0)
    assert (found["precision_low"], found["precision_high"]) == (50.0, 100.0)  # subject 1, or subject 0, drawn twice
    assert (found["recall_low"], found["recall_high"]) == (50.0, 100.0)
