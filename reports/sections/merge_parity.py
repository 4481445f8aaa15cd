"""Merged against unmerged, adapters × tasks: the worst difference of each, and all flips."""

from __future__ import annotations

from collections.abc import Iterable

from rankbench.bench.records import RunRecord
from rankbench.reports.render.blocks import Section, Table
from rankbench.reports.render.numbers import MISSING
from rankbench.reports.render.words import words
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """One table of all runs that were checked."""
    groups = study.shown.groups
    checked = {run.adapter for run in study.shown.records if run.merge_parity}
    checks = [run.merge_parity for run in study.shown.records if run.merge_parity]
    if not checks:
        return None
    flips, items = sum(check.top1_flips for check in checks), sum(check.items for check in checks)
    rows = [
        [adapter, *(_largest_difference(group.runs.get(adapter, {}).values()) for group in groups)]
        for adapter in study.shown.labels
        if adapter in checked
    ]
    note = words("merge_parity", flips=flips, items=f"{items:,}")
    return Section("Merge parity", [note, Table(["adapter", *(group.name for group in groups)], rows)])


def _largest_difference(runs: Iterable[RunRecord]) -> str:
    found = [run.merge_parity.largest_logit_difference for run in runs if run.merge_parity]
    return f"{max(found):.2g}" if found else MISSING
