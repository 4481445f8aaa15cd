"""Final loss and gradient norm against the rank, of adapters that differ in nothing else."""

from __future__ import annotations

import statistics
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from rankbench.reports.frames import Group, Suite
from rankbench.reports.render.markdown import Section, figure, paragraphs, quantity, table
from rankbench.reports.render.plot import Styles, log_values, render, spans_decades
from rankbench.reports.stats.summary import final_losses, spread

Points = dict[int, list[float]]
"""Rank -> one value a seed."""

HOW_TO_READ = (
    "Final loss: mean of the last tenth of the steps. Gradient norm: mean over all steps, of the trainable "
    "parameters, before clipping. Both mean ± sd (seeds)."
)


def rank_sweep(suite: Suite, styles: Styles) -> Section:
    """A figure and a table for each group in which an adapter has two ranks or more."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for group in suite.groups:
        bases = group.ranks
        if not bases:
            continue
        losses = {
            base: {rank: losses_at(group, label) for rank, label in labels.items()}
            for base, labels in bases.items()
        }
        norms = {
            base: {rank: norms_at(group, label) for rank, label in labels.items()}
            for base, labels in bases.items()
        }
        rows = [
            [base, str(rank), quantity(spread(losses[base][rank])), quantity(spread(norms[base][rank]))]
            for base, labels in bases.items()
            for rank in labels
        ]
        name = f"ranks--{group.file_name}.svg"
        figures[name] = draw_sweep(group, losses, norms, styles)
        title = f"Final loss and mean gradient norm against the rank, {group.name}"
        parts.append(f"### {group.name}: ranks")
        parts.append(figure(name, title, "Point: mean over the seeds; bar: smallest to largest."))
        parts.append(table(["adapter", "rank", "final loss", "mean gradient norm"], rows))
    return Section(paragraphs("## Rank sweep", HOW_TO_READ, *parts) if parts else "", figures)


def draw_sweep(group: Group, losses: dict[str, Points], norms: dict[str, Points], styles: Styles) -> bytes:
    """Two panels with a common, logarithmic axis of ranks."""

    def draw(canvas: Figure) -> None:
        left, right = canvas.subplots(1, 2)
        _panel(left, losses, styles, "final training loss")
        _panel(right, norms, styles, "mean gradient norm")
        canvas.suptitle(group.name)

    return render(draw, (9.5, 3.6))


def _panel(axes: Axes, points: dict[str, Points], styles: Styles, label: str) -> None:
    for base, by_rank in points.items():
        measured = {rank: values for rank, values in by_rank.items() if values}
        means = [statistics.fmean(values) for values in measured.values()]
        below = [mean - min(values) for mean, values in zip(means, measured.values(), strict=True)]
        above = [max(values) - mean for mean, values in zip(means, measured.values(), strict=True)]
        look: dict[str, Any] = styles[base]
        axes.errorbar(list(measured), means, yerr=[below, above], marker="o", markersize=4, capsize=3, **look)
    ranks = sorted({rank for by_rank in points.values() for rank in by_rank})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(rank) for rank in ranks])
    axes.xaxis.set_minor_locator(NullLocator())
    if spans_decades(
        (value for by_rank in points.values() for values in by_rank.values() for value in values), 20
    ):
        log_values(axes)
    axes.set_xlabel("rank r")
    axes.set_ylabel(label)


def losses_at(group: Group, label: str) -> list[float]:
    """Final loss of each seed of a label."""
    return list(final_losses(group.runs[label]).values())


def norms_at(group: Group, label: str) -> list[float]:
    """Gradient norm of each seed of a label, mean over the steps."""
    curves = [run.curve.gradient_norm for run in group.runs[label].values()]
    return [statistics.fmean(curve) for curve in curves if curve]
