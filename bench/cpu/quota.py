"""How many threads compute, where a control group (a container) has less than the machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rankbench.bench.cpu import groups


@contextmanager
def fitting(count: int | None = None) -> Iterator[None]:
    """With so many threads meanwhile, by default as many as PyTorch takes, but no more than a quota lets run
    at once: it knows of none, and more would wait for each other in every step."""
    before = torch.get_num_threads()
    allowed = [max(1, math.ceil(quota)) for quota in quotas(groups.around("cpu"))]
    torch.set_num_threads(count or min([before, *allowed]))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quotas(found: Iterator[groups.Group]) -> Iterator[float]:
    """Processors that each of the groups may use, if it has a limit (docs.kernel.org/scheduler/sched-bwc.html
    and admin-guide/cgroup-v2.html)."""
    for group in found:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if group.first_version else ("cpu.max",)
        try:
            quota, period = " ".join((group.folder / name).read_text() for name in names).split()
        except (OSError, ValueError):  # from a container its group is seen as the root, whatever its path
            continue
        if quota.isdecimal():  # neither "max" nor -1
            yield int(quota) / int(period)
