"""Sweeps over learning rates: score against the rate, and what a budget of trials is worth.

A sweep is a method whose runs lie at several learning rates of a grid (`RunRecord.point`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankbench.bench.records.schema import Scale
from rankbench.reports.frames import Group, Suite, in_order
from rankbench.reports.render.markdown import MISSING, Section, figure, number, paragraphs, plain, table
from rankbench.reports.render.plot import Style, log_values, looks, render, spans_decades
from rankbench.reports.stats.summary import selection_score
from rankbench.reports.stats.sweep import RateCurve, expected_best, rate_curve

RATE = "learning_rate"

HOW_TO_READ = (
    "A trial is one choice of learning rate and, where they are swept too, other settings. Scores are those "
    "on the selection slice of the training data, the mean over seeds; test items choose nothing. At each "
    "rate a curve shows the best of the other settings; its best rate is ringed, and where that is the "
    "lowest or highest rate tried, better ones may lie outside. “Best of k” is the score expected of the "
    "best of k trials drawn from the grid (exact, over all subsets): what tuning with that budget is worth. "
    "It is read from the scores that choose, and so flatters. Trials that failed are left out. Trials that "
    "differ in nothing but `loop_version` stand together: a version draws other random numbers."
)


@dataclass(frozen=True)
class Sweep:
    """One method's trials on one task."""

    curve: RateCurve
    """Selection score against learning rate, of the best other settings at each rate."""
    best: list[float]
    """Expected selection score of the best of 1, 2, … trials."""
    chosen: str
    """Label of the trial with the best selection score."""


def tuning(suite: Suite) -> Section:
    """A figure and a table for each task that was swept; nothing where none was."""
    found = [(group, swept) for group in _pooled(suite) if (swept := sweeps(group))]
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


def chosen_trials(suite: Suite) -> Suite:
    """The suite with each swept method's chosen trial alone: the others are there to be chosen from."""
    return replace(suite, groups=[_chosen(group) for group in _pooled(suite)])


def _chosen(group: Group) -> Group:
    chosen = {method: sweep.chosen for method, sweep in sweeps(group).items()}
    kept = {
        label: runs
        for label, runs in group.runs.items()
        if chosen.get(group.first(label).method, label) == label
    }
    return replace(group, runs=kept)


def _pooled(suite: Suite) -> list[Group]:
    """The groups; those of a task's sweep that differ in nothing but the loop's version are one."""
    found: dict[str, Group] = {}
    for group in suite.groups:
        is_trial = all(RATE in record.point for record in group.records)
        key = group.task if is_trial and group.differing == ["loop_version"] else group.name
        if other := found.get(key):
            labels = in_order([*other.runs, *group.runs])
            runs = {label: other.runs.get(label, {}) | group.runs.get(label, {}) for label in labels}
            found[key] = replace(other, letter="", runs=runs)
        else:
            found[key] = group
    return list(found.values())


def sweeps(group: Group) -> dict[str, Sweep]:
    """Method -> its sweep, for the methods with trials at two learning rates or more."""
    trials: dict[str, dict[str, float]] = defaultdict(dict)
    rates: dict[str, float] = {}
    for label, runs in group.runs.items():
        scores = [score for run in runs.values() if (score := selection_score(run)) is not None]
        first = group.first(label)
        if RATE in first.point and scores:
            trials[first.method][label] = float(np.mean(scores))
            rates[label] = float(first.point[RATE])
    return {
        method: _sweep(trials[method], rates, _selected_by(group).lower_is_better)
        for method in in_order(trials)
        if len({rates[label] for label in trials[method]}) > 1
    }


def _selected_by(group: Group) -> Scale:
    metrics = next(group.records).metrics
    return metrics.scales[metrics.selection]


def _sweep(trials: Mapping[str, float], rates: Mapping[str, float], lower: bool) -> Sweep:
    pick = min if lower else max
    by_rate: dict[float, list[float]] = defaultdict(list)
    for label, score in trials.items():
        by_rate[rates[label]].append(score)
    curve = rate_curve({rate: pick(scores) for rate, scores in by_rate.items()}, lower_is_better=lower)
    best = expected_best(list(trials.values()), lower_is_better=lower)
    return Sweep(curve, best.tolist(), pick(trials, key=lambda label: trials[label]))


def draw_sweeps(group: Group, swept: Mapping[str, Sweep], styles: Mapping[str, Style]) -> bytes:
    """Two panels: score against learning rate, and against the number of trials."""

    selected_by = _selected_by(group)
    factor = 100 if selected_by.percent else 1

    def draw(canvas: Figure) -> None:
        left, right = canvas.subplots(1, 2, sharey=True)
        for method, sweep in swept.items():
            _curve(left, sweep.curve, factor, styles[method])
            best = [factor * score for score in sweep.best]
            right.plot(range(1, len(best) + 1), best, marker="o", markersize=3, **styles[method])
        left.set_xscale("log")
        left.set_xlabel("learning rate")
        left.set_ylabel(f"selection score{' ×100' if selected_by.percent else ''}")
        right.set_xlabel("trials k")
        values = [point.mean for sweep in swept.values() for point in sweep.curve.points]
        if selected_by.lower_is_better and spans_decades(values):
            log_values(left)
        canvas.suptitle(group.name)

    return render(draw, (9.5, 3.6))


def _curve(axes: Axes, curve: RateCurve, factor: float, look: Style) -> None:
    rates, scores = zip(*((point.rate, factor * point.mean) for point in curve.points), strict=True)
    axes.plot(rates, scores, marker="o", markersize=3, **look)
    ring = {"marker": "o", "markersize": 9, "fillstyle": "none", "color": look["color"]}
    axes.plot(curve.best, scores[rates.index(curve.best)], **ring)


def _table(group: Group, swept: Mapping[str, Sweep]) -> str:
    fraction = _selected_by(group).percent
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
