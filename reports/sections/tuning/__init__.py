"""How the methods' settings were chosen: by trials of the suite's own, or by a sweep over learning rates."""

from __future__ import annotations

from rankbench.reports.render.blocks import Block, Section
from rankbench.reports.render.words import words
from rankbench.reports.sections.tuning.rates import rates
from rankbench.reports.sections.tuning.trials import trials
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """A figure and a table for each task; nothing where nothing was tried."""
    swept, tried = rates(study), trials(study)
    if not tried:
        return Section("Learning rates", [words("tuning"), *swept]) if swept else None
    old: list[Block] = [words("tuning"), *swept] if swept else []
    return Section("Tuning", [*tried, *old])
