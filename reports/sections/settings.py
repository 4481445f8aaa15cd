"""What each method has of its own beside the protocol: its hyperparameters, adapters × tasks."""

from __future__ import annotations

from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Section, Table
from rankbench.reports.render.markdown import literal
from rankbench.reports.render.numbers import MISSING
from rankbench.reports.study import Study

NOTE = "What each method has of its own beside the protocol; where it was chosen is said in the suite's file."


def section(study: Study) -> Section | None:
    """A row for each label."""
    groups = study.shown.groups
    rows = [[label, *(_given(group, label) for group in groups)] for label in study.shown.labels]
    header = ["adapter", *(group.name for group in groups)]
    listed = Table(header, rows, words=len(header))
    return Section("Settings of the methods", [NOTE, listed]) if rows else None


def _given(group: Group, label: str) -> str:
    if label not in group.contenders:
        return MISSING
    given = group.contenders[label].settings
    return literal(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in given.items()))
