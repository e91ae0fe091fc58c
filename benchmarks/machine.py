"""Where and of what a measurement was taken: commit, hardware, versions. Never a host's name."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_PACKAGES = {
    "torch": ("torch",),
    "faiss": ("faiss-gpu", "faiss-cpu", "faiss-gpu-cuvs"),
    "numpy": ("numpy",),
    "open_clip": ("open_clip_torch",),
    "pillow": ("pillow",),
}
# Flags of Linux on x86, the widest first.
_VECTORS = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16"), ("avx512f", "AVX512"), ("avx2", "AVX2"))
# What the benchmarks themselves write does not make the code another one.
_GENERATED = (":!benchmarks/results", ":!benchmarks/plots", ":!*.md")


def facts(threads: int, peers: Iterable[str]) -> dict[str, Any]:
    """The fields of a result line that are the same for a whole run. peers: their pip names."""
    return {
        **commit(),
        "threads": threads,
        "device": {"cpu": _cpu(), "cores": threads, "gpu": _gpu()},
        "versions": _versions(peers),
    }


def commit(root: Path = ROOT) -> dict[str, Any]:
    """{"commit": short hash or "unknown", "dirty": whether the code differs from it}."""
    found = _output("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    if not found:
        return {"commit": "unknown", "dirty": True}
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--", ".", *_GENERATED)
    return {"commit": found, "dirty": bool(changed)}


def threads_to_use() -> int:
    """OMP_NUM_THREADS, within the CPUs that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable, int(asked)) if asked.isdecimal() and int(asked) else usable


def _cpu() -> str:
    """Name and widest vector instructions: clouds give one name to processors far apart in speed."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "model name" in known:
        flags = known.get("flags", "").split()
        return ", ".join([known["model name"], *[name for flag, name in _VECTORS if flag in flags][:1]])
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def _gpu() -> str:
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines()[0] if names else "none"


def _versions(peers: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"python": platform.python_version()}
    for name, packages in _PACKAGES.items():
        found[name] = next(filter(None, map(_version, packages)), None)
    found["peers"] = {name: _version(name) for name in sorted(set(peers)) if _version(name)}
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str:
    """What a command prints, or nothing if it is not here or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
