from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as command
from benchmarks import report, results, suites
from benchmarks.case import BenchmarkError

README = "# Title\n\n<!-- benchmarks:begin search -->\nold\n<!-- benchmarks:end search -->\n\nend\n"
SVG = "search-test-cpu-2-cores-no-gpu.svg"


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(README)
    return path


@pytest.fixture
def files(readme, search_suite):
    return lambda lines: report.files(lines, {"search": search_suite}, readme, readme.parent / "plots")


def region(text):
    return text.partition("begin search -->\n")[2].partition("\n<!-- benchmarks:end")[0]


def test_a_table_has_ours_and_the_peer_side_by_side(files, readme, make_line):
    text = files([make_line("ours", rate=1234.5), make_line("peer", rate=56.78)])[readme]
    assert text.startswith("# Title\n") and text.endswith("-->\n\nend\n")
    assert region(text) == f"""\
On Test CPU, 2 cores, no GPU; commit aaa111.

| case | contender | result | times the peer | recall | peak MiB |
| --- | --- | ---: | ---: | ---: | ---: |
| scan | **ours** | 1,234 queries/s | 2.00 | 0.5 | 64.0 |
|  | peer | 56.8 queries/s | peer | 0.5 | 64.0 |

![Recall against speed](plots/{SVG})"""


def test_the_plot_has_the_lines_points(files, readme, make_line):
    drawn = files([make_line("ours", rate=100.0), make_line("peer", rate=10.0)])[readme.parent / "plots" / SVG]
    points = ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}circle")
    assert [(one.get("cx"), one.get("cy")) for one in points] == [("540.0", "384.0"), ("64.0", "384.0")]


def test_without_full_lines_the_region_says_so(files, readme, make_line):
    wanted = files([make_line(mode="quick"), make_line(suite="another")])
    assert list(wanted) == [readme]
    assert region(wanted[readme]) == "Not measured in full yet: `make bench` does it."


def test_the_last_run_of_a_case_counts_as_a_whole(search_suite, make_line):
    old = [make_line("ours", rate=1), make_line("peer"), make_line("third")]
    new = [make_line("ours", rate=2, date="2026-02-02"), make_line("peer", date="2026-02-02")]
    assert report.newest("search", search_suite, old + new) == {"Test CPU, 2 cores, no GPU": new}


def test_machines_stand_apart(search_suite, make_line):
    gpu = make_line(threads=1, device={"cpu": "C", "cores": 1, "gpu": "G"})
    found = report.newest("search", search_suite, [make_line(), gpu])
    assert found == {"Test CPU, 2 cores, no GPU": [make_line()], "C, 1 core, G": [gpu]}


def test_cases_come_in_the_suites_order_and_forgotten_ones_do_not(search_suite, make_line):
    lines = [make_line(case="walk"), make_line(case="dropped"), make_line(case="scan")]
    [found] = report.newest("search", search_suite, lines).values()
    assert [line["case"] for line in found] == ["scan", "walk"]


def test_a_region_for_all_suites_has_their_headings(files, readme, make_line):
    readme.write_text(README.replace("search", "all"))
    text = files([make_line()])[readme]
    assert "begin all -->\n**Searching made-up vectors**\n\nOn Test CPU" in text


def test_a_commit_with_changes_is_told_as_such(files, readme, make_line):
    assert "; commit aaa111 with changes.\n" in files([make_line(dirty=True)])[readme]


def test_what_is_stale_is_named_and_written(files, readme, make_line):
    wanted = files([make_line()])
    plot = readme.parent / "plots" / SVG
    assert report.stale(wanted) == [plot, readme] == report.write(wanted)
    again = files([make_line()])
    assert again == wanted and report.stale(again) == []
    plot.write_text("edited by hand")
    assert report.stale(files([make_line()])) == [plot]


def test_a_plot_without_results_goes(files, readme, make_line):
    report.write(files([make_line()]))
    plot = readme.parent / "plots" / SVG
    assert report.stale(files([])) == [plot, readme]
    report.write(files([]))
    assert not plot.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "found begun: none"),
        ("<!-- benchmarks:begin search -->\n<!-- benchmarks:end scan -->\n", "found begun: search"),
        (README.replace("search", "cooking"), "has a region for cooking. Regions: all, search."),
    ],
)
def test_a_readme_without_proper_regions_is_refused(files, readme, text, message):
    readme.write_text(text)
    with pytest.raises(BenchmarkError, match=message):
        files([])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567.0, "1,234,567"), (123.4, "123"), (99.95, "100.0"), (56.78, "56.8"), (1.0, "1"), (0.012345, "0.0123")],
)
def test_numbers_keep_three_digits(value, shown):
    assert report.shown_number(value) == shown


@pytest.mark.parametrize(
    ("metric", "title"),
    [("images_per_second", "images/s"), ("p50_ms", "p50 ms"), ("peak_mib", "peak MiB"), ("seconds", "seconds")],
)
def test_metrics_are_spelled_out(metric, title):
    assert report.title_of(metric) == title


def test_the_committed_readme_and_plots_are_what_the_results_give():
    modules = {name: suites.load(name) for name in suites.names()}
    assert report.stale(report.files(results.read(results.FULL), modules, command.README, command.PLOTS)) == []
