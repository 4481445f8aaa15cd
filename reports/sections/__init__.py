"""What a report says, a file a section: `section(study)`, or None where the records have nothing for it.

The module's name is the section's anchor. A module that `ORDER` does not name stands at the end.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from rankbench.reports.render.blocks import Section
from rankbench.reports.stats.evidence import StatsError
from rankbench.reports.study import Study

ORDER = (
    "in_brief",
    "beside",
    "introduction",
    "board",
    "leaderboard",
    "held_out",
    "accuracy_cost",
    "verdicts",
    "paper_tables",
    "published",
    "scores",
    "convergence",
    "rank_sweep",
    "tuning",
    "overhead",
    "diagnostics",
    "merge_parity",
    "paper_figures",
    "extensions",
    "protocol",
    "trained",
    "settings",
    "times",
    "provenance",
    "failures",
)


def all_sections(study: Study) -> dict[str, Section]:
    """Every section by its anchor, in order: a pure function of the records."""
    found = {module.name for module in pkgutil.iter_modules(__path__)}
    names = [*ORDER, *sorted(found - {*ORDER})]
    return {name.replace("_", "-"): made for name in names if (made := _made(name, study))}


def _made(name: str, study: Study) -> Section | None:
    """Data that a test cannot take leave one line in place of their section, and the others whole."""
    try:
        made: Section | None = import_module(f"{__name__}.{name}").section(study)
    except StatsError as error:
        made = Section(name.replace("_", " ").capitalize(), [f"Not shown: {error}."])
    return made
