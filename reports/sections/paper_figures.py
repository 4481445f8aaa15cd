"""The papers' figures rebuilt from our records, each with what is known of the paper's own beside it."""

from __future__ import annotations

from collections.abc import Sequence

from rankbench.bench.records.schema import OverheadRecord
from rankbench.reports.claims.measurements import MEASUREMENTS
from rankbench.reports.claims.published import Paper, Table
from rankbench.reports.claims.quoted import group_setting, quoted, setting, tables_of, value_of
from rankbench.reports.claims.settings import Setting, settings
from rankbench.reports.frames import BASELINE, Suite
from rankbench.reports.render.markdown import Section, figure, paragraphs
from rankbench.reports.render.plot import Styles
from rankbench.reports.sections import paper_lora2
from rankbench.reports.sections.convergence import is_regression, loss_figure
from rankbench.reports.sections.diagnostics import draw_panels, panels, rank_table
from rankbench.reports.sections.overhead import ratios

SCALORA, RSLORA = "ScaLoRA", "rsLoRA"

INTRODUCTION = (
    "What the papers plot, measured here: each figure names the one that it answers to, what is known of "
    "that one, and in what the two settings differ. Numbers of the papers are those of "
    "`results/published`; what no source gave is not shown."
)
READ_RANKS = (
    "Accumulated rank: numerical rank of (weight now − pretrained weight) of the probed layers. Rank of the "
    "gradient: of the loss's gradient by the whole weight, on one batch. Layers of which one position an "
    "input reaches the loss, as a pooler, are left out of it, in the figure, the table and the verdict: "
    "theirs cannot exceed the number of inputs (records of earlier versions do not name them: there the "
    "figure shows them too, and nothing is judged). Non-negative share: the part of the layers whose column "
    "system had no negative entry at that step, so that column scaling is optimal and no fallback is needed; "
    "mean over the steps. The losses, panel (a), stand under Convergence."
)
CAPTION_RANKS = (
    "Panels by the letters of the paper's figure. Accumulated rank: mean over the probed layers; rank of the "
    "gradient: the layer where it is smallest; share: trailing mean over a tenth of its entries. Line: mean "
    "over the seeds; band: smallest to largest."
)


def section(suite: Suite, styles: Styles, papers: Sequence[Paper]) -> Section:
    """Every figure of the three papers that the records have something for."""
    parts = [
        *_regression(suite, styles, papers),
        *_ranks(suite, styles, papers),
        *_overhead(suite, papers),
        *_rank_sweeps(suite, papers),
        *paper_lora2.sections(suite, papers),
    ]
    if not parts:
        return Section("")
    figures = {name: image for part in parts for name, image in part.figures.items()}
    texts = (part.text for part in parts)
    return Section(paragraphs("## The papers' figures", INTRODUCTION, *texts), figures)


def published_share(papers: Sequence[Paper]) -> float | None:
    """ScaLoRA's share of layers with a non-negative column system, a fraction."""
    share = value_of(tables_of(papers, SCALORA, "Figure 2(d)"), SCALORA)
    return None if share is None else share / 100


def _regression(suite: Suite, styles: Styles, papers: Sequence[Paper]) -> list[Section]:
    """ScaLoRA's figure 1."""
    theirs = tables_of(papers, SCALORA, "Figure 1")
    return [
        Section(
            paragraphs(
                f"### {SCALORA}, figure 1: {group.name}",
                (drawn := loss_figure(group, styles)).text,
                quoted(theirs),
                group_setting(theirs, group),
            ),
            drawn.figures,
        )
        for group in suite.groups
        if is_regression(group)
    ]


def _ranks(suite: Suite, styles: Styles, papers: Sequence[Paper]) -> list[Section]:
    """ScaLoRA's figure 2, b to d."""
    theirs = tables_of(papers, SCALORA, *(f"Figure 2({letter})" for letter in "abcd"))
    share = published_share(papers)
    found = []
    for group in suite.groups:
        if not (measured := panels(group, share)):
            continue
        name = f"rank--{group.file_name}.svg"
        text = paragraphs(
            f"#### {group.name}: ranks and scaling",
            figure(name, f"Rank and scaling on {group.name}", CAPTION_RANKS),
            rank_table(group, measured),
            group_setting(theirs, group),
        )
        found.append(Section(text, {name: draw_panels(group, measured, styles)}))
    title = f"### {SCALORA}, figure 2: ranks and scaling"
    return [Section(paragraphs(title, READ_RANKS, quoted(theirs))), *found] if found else []


def _overhead(suite: Suite, papers: Sequence[Paper]) -> list[Section]:
    """ScaLoRA's figure 3, drawn elsewhere."""
    theirs = tables_of(papers, SCALORA, "Figure 3")
    measured = [record for record in suite.overhead if not record.growth and ratios(record, BASELINE)]
    if not measured:
        return []
    differing = dict.fromkeys(setting(theirs, record.model, record.name, None) for record in measured)
    return [
        Section(
            paragraphs(
                f"### {SCALORA}, figure 3: overhead",
                f"Time and memory beside {BASELINE}'s are drawn under Overhead: {_names(measured)}.",
                quoted(theirs),
                *differing,
            )
        )
    ]


def _rank_sweeps(suite: Suite, papers: Sequence[Paper]) -> list[Section]:
    """rsLoRA's figures 2 and 3, drawn elsewhere."""
    theirs = tables_of(papers, RSLORA, "Figure 2", "Figure 3", "not stated, quoted in a note")
    found = settings(MEASUREMENTS["final_loss_slope"], suite)
    if not found:
        return []
    differing = dict.fromkeys(setting(theirs, each.model, each.task, None) for each in found)
    return [
        Section(
            paragraphs(
                f"### {RSLORA}, figures 2 and 3: loss and gradient norm over ranks",
                f"Drawn under Rank sweep: {_names(found)}.",
                quoted(theirs),
                *differing,
                _learning_rates(theirs, found),
            )
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


def _names(found: Sequence[OverheadRecord] | Sequence[Setting]) -> str:
    return ", ".join(each.name for each in found)
