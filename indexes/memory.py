"""How much memory there is for another program: of the machine, and of the control group it runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LIMITS = (  # of control groups, version 2 and version 1: what they allow, and what is taken
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_CACHED = ("inactive_file", "active_file")  # taken, and given back when it is asked for


def free_memory(
    processes: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return how many bytes this process may still take; None where the system does not say.

    In a container, or a service with a limit, that is less than what the machine has.
    """
    left = [_machine(processes), *map(_left_in, _own_groups(processes, groups))]
    return min((one for one in left if one is not None), default=None)


def _machine(processes: Path) -> int | None:
    with suppress(OSError, KeyError, ValueError):
        lines = (processes / "meminfo").read_text(encoding="ascii").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        return int(fields["MemAvailable"].split()[0]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _own_groups(processes: Path, groups: Path) -> Iterator[Path]:
    """Yield the folders of the process's control group and of those it lies in.

    A container may see its own as the root, whatever its name is outside.
    """
    with suppress(OSError, ValueError):
        for line in (processes / "self" / "cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)  # "0::/a/b", or "9:memory:/a/b"
            if controllers in ("", "memory"):
                parts = Path(name).parts[1:]
                for depth in range(len(parts) + 1):
                    yield groups.joinpath(controllers, *parts[:depth])


def _left_in(group: Path) -> int | None:
    for limit, taken in _LIMITS:
        with suppress(OSError, ValueError):  # no such file; "max" is no limit
            left = int((group / limit).read_text()) - int((group / taken).read_text())
            return max(0, left + _cached(group))
    return None


def _cached(group: Path) -> int:
    with suppress(OSError, ValueError):
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return sum(int(fields.get(name, 0)) for name in _CACHED)
    return 0
