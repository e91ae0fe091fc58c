import json
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import suites


@pytest.fixture
def run(monkeypatch, capfd):
    """The command, as the shell would run it: (status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
        capfd.readouterr()
        try:
            command.main()
            status = 0
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_quick_run_from_end_to_end(run, tmp_path):
    file = tmp_path / "r.jsonl"
    # Whether a peer is installed must not matter here, and importing torch takes seconds.
    arguments = ("run", "evaluation", "--quick", "--no-peers", "--results", file, "--work", tmp_path / "work")
    status, out, err = run(*arguments)
    assert status == 0, err
    [ours] = [json.loads(text) for text in file.read_text().splitlines()]
    assert (ours["suite"], ours["case"], ours["contender"]) == ("evaluation", "1,000 images x 5,000 captions", "ours")
    assert (ours["mode"], ours["repeats"], ours["warm_up"]) == ("quick", 1, 0)
    assert (ours["line_up"], ours["ratio_to_peer"]) == (["ours"], None)
    # Captions are made with a cosine of 0.14 to their image, where chance scatters by 0.044.
    assert ours["metrics"]["text_to_image_recall_1"] == pytest.approx(0.48, abs=0.02)
    assert ours["metrics"]["text_to_image_recall_10"] == pytest.approx(0.81, abs=0.02)
    assert ours["metrics"]["seconds"] > 0 and "peak_mib" not in ours["metrics"]  # it ran in this process
    assert out.splitlines()[0].split("\t")[:4] == ["suite", "case", "contender", "median"]
    assert out.splitlines()[1].split("\t")[:3] == ["evaluation", "1,000 images x 5,000 captions", "ours"]
    assert "evaluation / 1,000 images x 5,000 captions: ours" in err
    status, out, err = run(*arguments)
    assert (status, out) == (0, "")
    assert "measured before" in err
    assert [json.loads(text) for text in file.read_text().splitlines()] == [ours]


def test_cases_are_chosen_by_a_part_of_their_name(run, tmp_path, search_suite, monkeypatch):
    monkeypatch.setattr(suites, "names", lambda: ["search"])
    monkeypatch.setattr(suites, "load", lambda name: search_suite)
    where = ("run", "--quick", "--results", tmp_path / "r.jsonl", "--work", tmp_path)
    status, _, err = run(*where, "--case", "wal")
    assert status == 1
    assert err.splitlines()[-1] == "Error: Not measured, for the reasons above: search / walk."
    assert run(*where, "--case", "swim") == (1, "", 'Error: No case of search has "swim" in its name.\n')


def test_a_case_that_fails_is_named_and_makes_the_status_1(run, tmp_path, search_suite, monkeypatch):
    monkeypatch.setattr(suites, "names", lambda: ["search"])
    monkeypatch.setattr(suites, "load", lambda name: search_suite)
    status, out, err = run("run", "--quick", "--results", tmp_path / "r.jsonl", "--work", tmp_path)
    assert (status, out) == (1, "")
    assert "search / scan: failed. ours: AssertionError: a report measures nothing" in err
    assert err.splitlines()[-1] == "Error: Not measured, for the reasons above: search / scan, search / walk."


def test_compare_prints_a_table(run, tmp_path, make_line):
    before = write(tmp_path / "a.jsonl", [make_line(rate=20), make_line("peer", rate=5)])
    after = write(tmp_path / "b.jsonl", [make_line(rate=30)])
    status, out, err = run("compare", before, after)
    assert status == 0
    assert out.splitlines() == [
        "suite\tcase\tcontender\tunit\tbefore\tafter\tchange\tverdict",
        "search\tscan\tours\tqueries_per_second\t20\t30\t+50.0 %\tbetter",
    ]
    assert err == "1 results are on one side only, or were measured in another way.\n"


def test_compare_two_commits_of_a_file(run, tmp_path, make_line):
    file = write(tmp_path / "a.jsonl", [make_line(rate=20), make_line(rate=10, commit="bbb222")])
    status, out, _ = run("compare", file, "--commits", "aaa", "bbb")
    assert status == 0
    assert out.splitlines()[1].split("\t")[4:] == ["20", "10", "-50.0 %", "worse"]


def test_report_writes_and_checks(run, tmp_path):
    (tmp_path / "README.md").write_text("<!-- benchmarks:begin all -->\n<!-- benchmarks:end all -->\n")
    where = ("--results", tmp_path / "none.jsonl", "--readme", tmp_path / "README.md", "--plots", tmp_path)
    status, out, err = run("report", "--check", *where)
    assert (status, out) == (1, "")
    assert err == f"Error: Out of date: {tmp_path / 'README.md'}. Run: python -m benchmarks report\n"
    assert run("report", *where) == (0, f"{tmp_path / 'README.md'}\n", "")
    assert run("report", "--check", *where) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("run", "cooking"), 1, 'Error: There is no suite "cooking". Suites: '),
        (("run", "evaluation", "--peer", "nobody"), 1, 'Error: No suite chosen has a peer "nobody". Peers: CLIP_benchmark.'),
        (("run", "evaluation", "--peer", "CLIP_benchmark", "--no-peers"), 2, "Error: Give --peer or --no-peers, not both."),
        (("compare", command.README), 2, "Error: Name two files, or one file and --commits BEFORE AFTER."),
        (("compare", command.README, command.README), 1, "README.md, line 1 is not a benchmark result."),
        (("report", "--readme", "no/such/README.md"), 1, "Error: There is no no/such/README.md."),
    ],
)
def test_mistakes_are_told_in_a_sentence(run, arguments, status, message):
    found, out, err = run(*arguments)
    assert (found, out) == (status, "")
    assert message in err and "Traceback" not in err


def test_an_interrupt_says_how_to_go_on(run, monkeypatch, tmp_path):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(command.runner, "run", interrupted)
    status, out, err = run("run", "evaluation", "--quick", "--work", tmp_path)
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "Interrupted. What was measured is kept; the same command goes on from there."
