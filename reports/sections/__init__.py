"""What a report says, a file a section: `section(study)`, or None where the records have nothing for it.

The module's name is the section's anchor. A module that `ORDER` does not name stands at the end.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module

from rankbench.reports.render.blocks import Section
from rankbench.reports.stats.evidence import StatsError
from rankbench.reports.study import Study

ORDER = (
    "in_brief",
    "introduction",
    "leaderboard",
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
    return {name.replace("_", "-"): made for name, make in _found() if (made := _made(name, make, study))}


def _found() -> Iterator[tuple[str, Callable[[Study], Section | None]]]:
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    modules = {name: import_module(f"{__name__}.{name}") for name in names}
    make = {name: module.section for name, module in modules.items() if hasattr(module, "section")}
    yield from ((name, make[name]) for name in ORDER if name in make)
    yield from ((name, make[name]) for name in sorted(make.keys() - {*ORDER}))


def _made(name: str, make: Callable[[Study], Section | None], study: Study) -> Section | None:
    """Data that a test cannot take leave one line in place of their section, and the others whole."""
    try:
        return make(study)
    except StatsError as error:
        return Section(name.replace("_", " ").capitalize(), [f"Not shown: {error}."])
