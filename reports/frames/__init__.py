"""Records as every section shares them: what a run's configuration says is read here, once."""

from __future__ import annotations

from rankbench.reports.frames.contender import Contender, flatten
from rankbench.reports.frames.group import Group
from rankbench.reports.frames.overhead import Overhead
from rankbench.reports.frames.suite import Suite, load

__all__ = ["Contender", "Group", "Overhead", "Suite", "flatten", "load"]
