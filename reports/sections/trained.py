"""What was trained: the layers that each entry of the targets names, and what is trained whole."""

from __future__ import annotations

from collections import defaultdict

from rankbench.reports.render.blocks import Section, Table
from rankbench.reports.render.numbers import MISSING
from rankbench.reports.study import Study

NOTE = "Trained whole beside the adapter: what the checkpoint does not hold, or a head that was kept."


def section(study: Study) -> Section | None:
    """A row for all adapters of a task that train the same."""
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for group in study.shown.groups:
        for label, one in group.contenders.items():
            first = one.record
            layers = ", ".join(f"{count} by `{entry}`" for entry, count in first.layers.items())
            rows[group.name, layers or MISSING, ", ".join(first.heads) or MISSING].append(label)
    if not any(record.layers for record in study.shown.records):
        return None
    header = ["task", "layers by entry of the targets", "trained whole", "adapters"]
    cells = [[*row, ", ".join(labels)] for row, labels in rows.items()]
    return Section("What was trained", [NOTE, Table(header, cells, words=4)])
