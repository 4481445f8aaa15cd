"""Every number that runs give of themselves and that no other section shows."""

from __future__ import annotations

from rankbench.reports.render.blocks import Section, Table
from rankbench.reports.render.numbers import quantity
from rankbench.reports.stats.summary import spread
from rankbench.reports.study import Study

SHOWN = {"scores_saved"}
"""Numbers that stand among the papers' figures."""


def section(study: Study) -> Section | None:
    """A row for each task, adapter and number."""
    rows = []
    for group in study.shown.groups:
        for adapter, runs in group.runs.items():
            blocks = [
                {key: value for key, value in run.diagnostics.items() if type(value) in (int, float)}
                for run in runs.values()
            ]
            for key in sorted({key for block in blocks for key in block} - SHOWN):
                value = spread(block[key] for block in blocks if key in block)
                rows.append([group.name, adapter, key, quantity(value)])
    header = ["task", "adapter", "diagnostic", "mean ± sd (seeds)"]
    return Section("Other diagnostics", [Table(header, rows, words=3)]) if rows else None
