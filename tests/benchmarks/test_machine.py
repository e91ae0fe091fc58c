import os
import shutil
import subprocess

import pytest

from benchmarks import machine


@pytest.fixture
def repository(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")

    def git(*arguments):
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1\n")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "benchmarks" / "results" / "full.jsonl").write_text("")
    git("add", ".")
    git("commit", "-m", "one")
    return tmp_path


def test_what_benchmarks_write_does_not_change_the_code(repository):
    clean = machine.commit(repository)
    assert clean["dirty"] is False and len(clean["commit"]) == 12
    (repository / "benchmarks" / "results" / "full.jsonl").write_text("{}\n")
    (repository / "README.md").write_text("tables\n")
    assert machine.commit(repository) == clean
    (repository / "code.py").write_text("2\n")
    assert machine.commit(repository) == {**clean, "dirty": True}


def test_no_repository_no_commit(tmp_path):
    assert machine.commit(tmp_path) == {"commit": "unknown", "dirty": True}


@pytest.mark.parametrize(("asked", "threads"), [("1", 1), ("100000", None), ("0", None), ("", None), ("two", None)])
def test_threads_follow_the_variable_within_what_there_is(monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert machine.threads_to_use() == (threads or usable)


def test_facts_name_hardware_and_versions():
    facts = machine.facts(2, ["numpy", "no-such-package"])
    assert sorted(facts) == ["commit", "device", "dirty", "threads", "versions"]
    assert facts["threads"] == facts["device"]["cores"] == 2
    assert sorted(facts["device"]) == ["cores", "cpu", "gpu"] and facts["device"]["cpu"]
    assert sorted(facts["versions"]) == ["faiss", "numpy", "open_clip", "peers", "pillow", "python", "torch"]
    assert facts["versions"]["peers"] == {"numpy": facts["versions"]["numpy"]}
