from __future__ import annotations

from pathlib import Path

import pytest

from indexes import free_memory

MACHINE = 8_000_000 * 1024


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    written(folder, "meminfo", "MemTotal:       9000000 kB\nMemAvailable:   8000000 kB\nBuffers:  1 kB")
    return folder


def written(folder: Path, name: str, text: object) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def test_what_the_machine_has(processes: Path, tmp_path: Path) -> None:
    assert free_memory(processes, tmp_path / "none") == MACHINE
    written(processes, "self/cgroup", "0::/user.slice")
    assert free_memory(processes, tmp_path / "none") == MACHINE


def test_a_limit_less_what_is_taken(processes: Path, tmp_path: Path) -> None:
    written(processes, "self/cgroup", "0::/app")
    written(tmp_path, "app/memory.max", 3_000_000_000)
    written(tmp_path, "app/memory.current", 1_200_000_000)
    assert free_memory(processes, tmp_path) == 1_800_000_000
    written(tmp_path, "app/memory.stat", "anon 900000000\ninactive_file 200000000\nactive_file 50000000")
    assert free_memory(processes, tmp_path) == 2_050_000_000  # files that are cached make room
    written(tmp_path, "app/memory.current", 4_000_000_000)
    assert free_memory(processes, tmp_path) == 0
    written(tmp_path, "app/memory.max", "max")
    assert free_memory(processes, tmp_path) == MACHINE


def test_a_limit_further_out_counts_too(processes: Path, tmp_path: Path) -> None:
    written(processes, "self/cgroup", "0::/service/app")
    for group, limit in (("service/app", "max"), ("service", 2_000_000_000), ("service/other", 5)):
        written(tmp_path, f"{group}/memory.max", limit)
        written(tmp_path, f"{group}/memory.current", 500_000_000)
    assert free_memory(processes, tmp_path) == 1_500_000_000


@pytest.mark.parametrize("line", ["0::/", "0::/docker/5f3a"])
def test_a_container_sees_its_own_as_the_root(line: str, processes: Path, tmp_path: Path) -> None:
    written(processes, "self/cgroup", line)
    written(tmp_path, "memory.max", 1_000_000_000)
    written(tmp_path, "memory.current", 400_000_000)
    assert free_memory(processes, tmp_path) == 600_000_000


def test_the_first_version_of_control_groups(processes: Path, tmp_path: Path) -> None:
    written(processes, "self/cgroup", "12:cpu,cpuacct:/docker/5f3a\n9:memory:/docker/5f3a\n1:name=systemd:/x")
    written(tmp_path, "memory/memory.limit_in_bytes", 1_000_000_000)
    written(tmp_path, "memory/memory.usage_in_bytes", 700_000_000)
    assert free_memory(processes, tmp_path) == 300_000_000
    written(tmp_path, "memory/memory.limit_in_bytes", 2**63 - 4096)  # its way to say none
    assert free_memory(processes, tmp_path) == MACHINE


def test_this_machine_has_some() -> None:
    assert (free_memory() or 1) > 0
