"""Main memory: the machine's, or what a control group (a container) has of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from rankbench.bench.cpu import groups


class _Files(NamedTuple):
    """Of a control group, in bytes; docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html."""

    limit: str
    used: str
    cache: str
    """An entry of `memory.stat`: files that the kernel lets go of when memory is short. Used, but free."""


V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Files("memory.max", "memory.current", "inactive_file")


def free() -> int:
    """Bytes that are free for workers."""
    return min([psutil.virtual_memory().available, *left_by(_around())])


def total() -> int:
    """Bytes that a process could have if nothing else ran here, swap included."""
    limits = [limit for limit, _ in _limited(_around())]
    return min([psutil.virtual_memory().total, *limits]) + psutil.swap_memory().total


def left_by(groups: Iterator[tuple[Path, _Files]]) -> Iterator[int]:
    """Bytes that each of the groups leaves, if it has a limit."""
    return (max(0, limit - used) for limit, used in _limited(groups))


def _limited(groups: Iterator[tuple[Path, _Files]]) -> Iterator[tuple[int, int]]:
    """The limit of each group that has one, and the bytes of it that are used for good."""
    for folder, files in groups:
        try:
            limit, used, stat = ((folder / name).read_text() for name in (*files[:2], "memory.stat"))
        except OSError:  # seen from a container, its group is the root, whatever its path outside
            continue
        if limit.strip().isdecimal():  # not "max"
            cache = re.search(rf"^{files.cache} (\d+)$", stat, re.MULTILINE)
            yield int(limit), int(used) - (int(cache[1]) if cache else 0)


def _around() -> Iterator[tuple[Path, _Files]]:
    """The memory groups that bound this process."""
    return _files(groups.around("memory"))


def _groups(membership: str, root: Path) -> Iterator[tuple[Path, _Files]]:
    """The memory groups that bound a process, by its /proc/PID/cgroup."""
    return _files(groups.of(membership, root, "memory"))


def _files(found: Iterator[groups.Group]) -> Iterator[tuple[Path, _Files]]:
    return ((group.folder, V1 if group.first_version else V2) for group in found)
