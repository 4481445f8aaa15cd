"""The control groups (a container's, a batch job's) that bound this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Group(NamedTuple):
    """Where its files lie, which have other names in the first version."""

    folder: Path
    first_version: bool


def around(controller: str) -> Iterator[Group]:
    """Those of a controller, as "memory" or "cpu", that bound this process: its own and those around it."""
    membership = Path("/proc/self/cgroup")
    return of(membership.read_text(), Path("/sys/fs/cgroup"), controller) if membership.exists() else iter(())


def of(membership: str, root: Path, controller: str) -> Iterator[Group]:
    """The same of a process, by its /proc/PID/cgroup."""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            base = root / controller if controllers else root
            own = base / path.strip("/")
            for folder in (own, *own.parents):
                yield Group(folder, bool(controllers))
                if folder == base:
                    break
