"""Sections that are not made of blocks yet, under the names of the modules that they will be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rankbench.reports.render import markdown
from rankbench.reports.render.blocks import Old, Section
from rankbench.reports.render.interactive_figures import figures
from rankbench.reports.sections import (
    convergence,
    diagnostics,
    overhead,
    paper_figures,
    rank_sweep,
    tuning,
)
from rankbench.reports.study import Study

OldMake = Callable[[Study], markdown.Section]


def _converted(make: OldMake) -> Callable[[Study], Section | None]:
    def section(study: Study) -> Section | None:
        made = make(study)
        title, _, text = made.text.partition("\n\n")
        return Section(title.lstrip("# "), [Old(text, made.figures, _drawn(study))]) if title else None

    return section


def _drawn(study: Study) -> dict[str, Any]:
    if "drawn" not in vars(study):
        vars(study)["drawn"] = figures(study.shown, study.styles)
    found: dict[str, Any] = vars(study)["drawn"]
    return found


_MAKE: dict[str, OldMake] = {
    "convergence": lambda study: convergence.convergence(study.shown, study.styles),
    "rank_sweep": lambda study: rank_sweep.rank_sweep(study.shown, study.styles),
    "tuning": lambda study: tuning.tuning(study.suite),
    "overhead": lambda study: overhead.overhead(study.shown, study.styles),
    "diagnostics": lambda study: diagnostics.scalars(study.shown),
    "merge_parity": lambda study: diagnostics.merge_parity(study.shown),
    "paper_figures": lambda study: paper_figures.section(study.shown, study.styles, study.papers),
}
OLD = {name: _converted(make) for name, make in _MAKE.items()}
NOT_SECTIONS: set[str] = set()
"""Modules whose `section` is of the old kind and whose name is not that of their section."""
