"""How many cores and how much memory this process may use: a container or a service often has less than the machine.

`os.cpu_count` and psutil tell what the machine has. As many threads on the two cores that a quota pays for wait for
each other, and whoever keeps in memory what fits into the machine is ended by the kernel.

Limits are those of Linux's control groups, of version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html) and of
version 1: of this process's own group and of each around it, for a limit there holds for all within.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """Of those that this process may run on, as many as its quota pays for, a begun one whole; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(root))]))


def memory_bytes(root: Path = ROOT) -> int:
    """Of the machine, or what the process's control groups leave of it."""
    return min([int(psutil.virtual_memory().total), *_memory_limits(root)])


def _quotas(root: Path) -> Iterator[float]:
    """In cores."""
    for group in _groups(root, "cpu"):
        told = _numbers(group / "cpu.max") or [
            *_numbers(group / "cpu.cfs_quota_us"),
            *_numbers(group / "cpu.cfs_period_us"),
        ]
        if len(told) == 2 and told[0] > 0:  # version 1 says -1 for none
            yield told[0] / told[1]


def _memory_limits(root: Path) -> Iterator[int]:
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            yield from _numbers(group / name)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The control group of this process, and each around it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        own = top / path.lstrip("/")
        yield from (each for each in (own, *own.parents) if each.is_relative_to(top))


def _numbers(path: Path) -> list[int]:
    """Of a file; none where it is not there or sets no limit (`max`)."""
    words = _text(path).split()
    return [] if "max" in words else [int(word) for word in words]


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""
