"""The papers' figures rebuilt from our records, each with what is known of the paper's own beside it."""

from __future__ import annotations

from collections.abc import Sequence

from rankbench.reports.claims.contenders import Setting, settings
from rankbench.reports.claims.measurements import MEASUREMENTS
from rankbench.reports.claims.published import Table
from rankbench.reports.frames import Overhead
from rankbench.reports.render.blocks import Section
from rankbench.reports.render.words import words
from rankbench.reports.sections.convergence import is_regression, losses
from rankbench.reports.sections.paper_figures import lora2, ranks
from rankbench.reports.sections.paper_figures.quotations import group_setting, quoted, setting, tables_of
from rankbench.reports.stats.costs import ratios
from rankbench.reports.study import Study

RSLORA = "rsLoRA"


def section(study: Study) -> Section | None:
    """Every figure of the three papers that the records have something for."""
    parts = [
        *_regression(study),
        *ranks.sections(study),
        *_overhead(study),
        *_rank_sweeps(study),
        *lora2.sections(study),
    ]
    return Section("The papers' figures", [words("paper_figures"), *parts]) if parts else None


def _regression(study: Study) -> list[Section]:
    """ScaLoRA's figure 1."""
    theirs = tables_of(study.papers, ranks.SCALORA, "Figure 1")
    return [
        Section(
            f"{ranks.SCALORA}, figure 1: {group.name}",
            [losses(group, study.styles_of(group)), quoted(theirs), group_setting(theirs, group)],
        )
        for group in study.shown.groups
        if is_regression(group)
    ]


def _overhead(study: Study) -> list[Section]:
    """ScaLoRA's figure 3, drawn elsewhere."""
    theirs = tables_of(study.papers, ranks.SCALORA, "Figure 3")
    baseline = study.suite.baseline
    measured = [record for record in study.shown.overhead if not record.growth and ratios(record, baseline)]
    if not measured:
        return []
    drawn = f"Time and memory beside {baseline}'s are drawn under Overhead: {_names(measured)}."
    differing = dict.fromkeys(setting(theirs, record.model, record.name, None) for record in measured)
    return [Section(f"{ranks.SCALORA}, figure 3: overhead", [drawn, quoted(theirs), *differing])]


def _rank_sweeps(study: Study) -> list[Section]:
    """rsLoRA's figures 2 and 3, drawn elsewhere."""
    theirs = tables_of(study.papers, RSLORA, "Figure 2", "Figure 3", "not stated, quoted in a note")
    found = settings(MEASUREMENTS["final_loss_slope"], study.shown)
    if not found:
        return []
    drawn = f"Drawn under Rank sweep: {_names(found)}."
    differing = dict.fromkeys(setting(theirs, each.model, each.task, None) for each in found)
    return [
        Section(
            f"{RSLORA}, figures 2 and 3: loss and gradient norm over ranks",
            [drawn, quoted(theirs), *differing, _learning_rates(theirs, found)],
        )
    ]


def _learning_rates(theirs: Sequence[Table], found: Sequence[Setting]) -> str:
    """One rate for all ranks: what it is decides how far the higher ones get."""
    in_paper = {str(rate) for each in theirs if (rate := each.protocol.learning_rate)}
    given = (one.given for each in found for one in each.candidates)
    here = {str(each["learning_rate"]) for each in given if "learning_rate" in each}
    if not (in_paper and here):
        return ""
    return f"Learning rate: {', '.join(sorted(in_paper))} in the paper, {', '.join(sorted(here))} here."


def _names(found: Sequence[Overhead] | Sequence[Setting]) -> str:
    return ", ".join(each.name for each in found)
