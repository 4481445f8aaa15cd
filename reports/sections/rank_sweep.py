"""Final loss and gradient norm against the rank, of adapters that differ in nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from rankbench.bench.records import RunRecord
from rankbench.reports.claims.measurements import final_loss
from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Picture, Section, Table
from rankbench.reports.render.figure import Axis, Figure, Panel, Points, spans_decades
from rankbench.reports.render.looks import Looks
from rankbench.reports.render.numbers import quantity
from rankbench.reports.render.words import words
from rankbench.reports.stats.summary import spread
from rankbench.reports.study import Study

ByRank = dict[int, list[float]]
"""Rank -> one value a seed."""


def section(study: Study) -> Section | None:
    """A figure and a table for each group in which an adapter has two ranks or more."""
    parts = [_of_group(group, study.styles) for group in study.shown.groups if group.ranks]
    return Section("Rank sweep", [words("rank_sweep"), *parts]) if parts else None


def _of_group(group: Group, styles: Looks) -> Section:
    losses, norms = (
        {
            base: {
                rank: [value for run in group.runs[label].values() if (value := read(run)) is not None]
                for rank, label in labels.items()
            }
            for base, labels in group.ranks.items()
        }
        for read in (final_loss, _norm)
    )
    rows = [
        [base, str(rank), quantity(spread(values)), quantity(spread(norms[base][rank]))]
        for base, by_rank in losses.items()
        for rank, values in by_rank.items()
    ]
    panels = [_panel(losses, styles, "final training loss"), _panel(norms, styles, "mean gradient norm")]
    picture = Picture(
        f"ranks--{group.file_name}",
        f"Final loss and mean gradient norm against the rank, {group.name}",
        "Point: mean over the seeds; bar: smallest to largest.",
        Figure(panels, (9.5, 3.6), group.name, beside=True, shared="x"),
    )
    table = Table(["adapter", "rank", "final loss", "mean gradient norm"], rows)
    return Section(f"{group.name}: ranks", [picture, table])


def _norm(run: RunRecord) -> float | None:
    """Of the gradient, mean over the steps."""
    return statistics.fmean(run.curve.gradient_norm) if run.curve.gradient_norm else None


def _panel(found: Mapping[str, ByRank], styles: Looks, label: str) -> Panel:
    marks = []
    for base, by_rank in found.items():
        seen = {rank: values for rank, values in by_rank.items() if values}
        mean, low, high = ([of(values) for values in seen.values()] for of in (statistics.fmean, min, max))
        marks.append(Points(styles[base], list(seen), mean, low, high, joined=True))
    ranks = sorted({rank for by_rank in found.values() for rank in by_rank})
    values = (value for by_rank in found.values() for seeds in by_rank.values() for value in seeds)
    log = 10 if spans_decades(values, 20) else None
    return Panel(marks, Axis("rank r", 2, ticks=ranks), Axis(label, log))
