"""Sweeps over learning rates: score against the rate, and what a budget of trials is worth.

A sweep is a method whose runs lie at several learning rates of a grid (`RunRecord.point`).
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankbench.reports.frames import Group, Suite
from rankbench.reports.render.markdown import MISSING, Section, figure, number, paragraphs, plain, table
from rankbench.reports.render.plot import Style, log_values, looks, render, spans_decades
from rankbench.reports.stats.sweep import RateCurve, Sweep, pooled, selected_by, sweeps

HOW_TO_READ = (
    "A trial is one choice of learning rate and, where they are swept too, other settings. Scores are those "
    "on the selection slice of the training data, the mean over seeds; test items choose nothing. At each "
    "rate a curve shows the best of the other settings; its best rate is ringed, and where that is the "
    "lowest or highest rate tried, better ones may lie outside. “Best of k” is the score expected of the "
    "best of k trials drawn from the grid (exact, over all subsets): what tuning with that budget is worth. "
    "It is read from the scores that choose, and so flatters. Trials that failed are left out. Trials that "
    "differ in nothing but `loop_version` stand together: a version draws other random numbers."
)


def tuning(suite: Suite) -> Section:
    """A figure and a table for each task that was swept; nothing where none was."""
    found = [(group, swept) for group in pooled(suite) if (swept := sweeps(group))]
    if not found:
        return Section("")
    styles = looks(method for _, swept in found for method in swept)
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for group, swept in found:
        name = f"learning-rates--{group.file_name}.svg"
        figures[name] = draw_sweeps(group, swept, styles)
        title = f"Score against learning rate, and the best of k trials, {group.name}"
        caption = (
            "Left: selection score, the best rate ringed. Right: expected selection score of the best of k."
        )
        parts += [f"### {group.name}: learning rates", figure(name, title, caption), _table(group, swept)]
    return Section(paragraphs("## Learning rates", HOW_TO_READ, *parts), figures)


def draw_sweeps(group: Group, swept: Mapping[str, Sweep], styles: Mapping[str, Style]) -> bytes:
    """Two panels: score against learning rate, and against the number of trials."""

    chosen_by = selected_by(group)
    factor = 100 if chosen_by.percent else 1

    def draw(canvas: Figure) -> None:
        left, right = canvas.subplots(1, 2, sharey=True)
        for method, sweep in swept.items():
            _curve(left, sweep.curve, factor, styles[method])
            best = [factor * score for score in sweep.best]
            right.plot(range(1, len(best) + 1), best, marker="o", markersize=3, **styles[method])
        left.set_xscale("log")
        left.set_xlabel("learning rate")
        left.set_ylabel(f"selection score{' ×100' if chosen_by.percent else ''}")
        right.set_xlabel("trials k")
        values = [point.mean for sweep in swept.values() for point in sweep.curve.points]
        if chosen_by.lower_is_better and spans_decades(values):
            log_values(left)
        canvas.suptitle(group.name)

    return render(draw, (9.5, 3.6))


def _curve(axes: Axes, curve: RateCurve, factor: float, look: Style) -> None:
    rates, scores = zip(*((point.rate, factor * point.mean) for point in curve.points), strict=True)
    axes.plot(rates, scores, marker="o", markersize=3, **look)
    ring = {"marker": "o", "markersize": 9, "fillstyle": "none", "color": look["color"]}
    axes.plot(curve.best, scores[rates.index(curve.best)], **ring)


def _table(group: Group, swept: Mapping[str, Sweep]) -> str:
    fraction = selected_by(group).percent
    most = max(len(sweep.best) for sweep in swept.values())
    budgets = [k for k in (1, 2, 4, 8, 16) if k < most] + [most]
    header = [
        "method",
        "rates tried",
        "trials",
        "best rate",
        "at the edge",
        *(f"best of {k}" for k in budgets),
        "best trial",
    ]
    rows = [
        [
            method,
            f"{number(sweep.curve.points[0].rate)} to {number(sweep.curve.points[-1].rate)}",
            str(len(sweep.best)),
            number(sweep.curve.best),
            "yes" if sweep.curve.at_edge else "no",
            *(plain(sweep.best[k - 1], fraction) if k <= len(sweep.best) else MISSING for k in budgets),
            sweep.chosen,
        ]
        for method, sweep in swept.items()
    ]
    return table(header, rows)
