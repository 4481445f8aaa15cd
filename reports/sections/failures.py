"""Runs that ended without a result; they count nowhere."""

from __future__ import annotations

from rankbench.reports.render.blocks import Section, Table
from rankbench.reports.render.markdown import literal
from rankbench.reports.render.numbers import MISSING
from rankbench.reports.study import Study


def section(study: Study) -> Section:
    """A row a failure."""
    rows = [
        [
            failure.task,
            failure.adapter or MISSING,
            *(MISSING if value is None else str(value) for value in (failure.seed, failure.step)),
            literal(failure.reason),
        ]
        for failure in study.suite.failures
    ]
    listed = Table(["task", "adapter", "seed", "step", "reason"], rows, words=5)
    return Section("Failures", ["They count nowhere above.", listed] if rows else ["None."])
