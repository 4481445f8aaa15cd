"""Records as every section shares them: what a run's configuration says is read here, once."""

from __future__ import annotations

from collections.abc import Iterable

from rankbench.reports.frames.contender import Contender, by_size
from rankbench.reports.frames.group import Group
from rankbench.reports.frames.suite import Suite, flatten, load

__all__ = ["BASELINE", "Contender", "Group", "Suite", "flatten", "in_order", "load"]

BASELINE = "lora"  # TODO: until sections and render ask the suite (Suite.baseline, Suite.labels, Suite.names)


def in_order(labels: Iterable[str]) -> list[str]:
    """Distinct labels, the baseline first, numbers by their size."""
    return sorted(set(labels), key=lambda label: (label != BASELINE, by_size(label), label))
