"""What accuracy costs: score against a measure of cost, and the adapters that no other one beats in both."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Choice, PageOnly, Section
from rankbench.reports.render.figure import Axis, Figure, Line, Mark, Panel, Points, spans_decades
from rankbench.reports.render.limits import NAMES
from rankbench.reports.render.looks import Look, Looks, distinct
from rankbench.reports.render.numbers import number, plain
from rankbench.reports.render.words import words
from rankbench.reports.sections.leaderboard import heading
from rankbench.reports.stats.costs import PARAMETERS
from rankbench.reports.stats.standing import Standing
from rankbench.reports.study import Study

APART, FAR = 0.015, 0.03
"""Shares of the axis: between points of one cost, and the most that one is moved."""
FRONT = Look("Pareto front", dash=(1.2, 1.2), width=2)

Places = dict[str, tuple[float, Standing]]
"""Adapter -> cost and score."""


def section(study: Study) -> Section | None:
    """The choice of a measure, and a figure a task: on the page alone."""
    options = {
        measure: {f"Score on {task} against {measure}": figure for task, figure in by_task.items()}
        for measure, by_task in tradeoffs(study).items()
    }
    return (
        Section("Accuracy and cost", [PageOnly([words("accuracy_cost"), Choice("cost", options)])])
        if options
        else None
    )


def tradeoffs(study: Study) -> dict[str, dict[str, Figure]]:
    """Measure of cost -> task -> figure."""
    found: dict[str, dict[str, Figure]] = {}
    for group in study.shown.groups:
        if group.is_rank_sweep:
            continue
        scores = study.standings[group]
        for measure, values in study.costs[group].items():
            places = {label: (values[label], scores[label]) for label in values if label in scores}
            if len(places) > 1:
                found.setdefault(measure, {})[group.name] = _figure(group, places, measure, study.styles)
    return found


def front(places: Places, lower_is_better: bool) -> list[str]:
    """The adapters for which no other is both as cheap and as good, and better in one; by cost."""
    sign = -1 if lower_is_better else 1

    def beaten(label: str) -> bool:
        cost, standing = places[label]
        return any(
            other_cost <= cost
            and sign * other.mean >= sign * standing.mean
            and (other_cost, other.mean) != (cost, standing.mean)
            for other_cost, other in places.values()
        )

    return sorted((label for label in places if not beaten(label)), key=lambda label: places[label][0])


def set_apart(costs: Mapping[str, float], log: bool) -> dict[str, float]:
    """Where points are drawn: at their costs, but of those that are closer than `APART` of the axis to the
    one before each that far from it, or as far as leaves none more than `FAR` from its cost."""
    scaled = {label: math.log(cost) if log else cost for label, cost in costs.items()}
    width = max(scaled.values()) - min(scaled.values())
    near: list[list[str]] = []
    for label in sorted(scaled, key=lambda label: scaled[label]):
        if near and scaled[label] - scaled[near[-1][-1]] < APART * width:
            near[-1].append(label)
        else:
            near.append([label])
    drawn: dict[str, float] = {}
    for labels in near:
        step = min(APART, 2 * FAR / max(1, len(labels) - 1)) * width
        for place, label in enumerate(labels):
            moved = (place - (len(labels) - 1) / 2) * step
            drawn[label] = scaled[label] + moved
    return {label: math.exp(place) if log else place for label, place in drawn.items()}


def _figure(group: Group, places: Places, measure: str, styles: Looks) -> Figure:
    """A point an adapter, with the interval of its score; filled: shown to beat the baseline."""
    percent = group.scale.percent
    factor = 100 if percent else 1
    log = 10 if spans_decades((cost for cost, _ in places.values()), 20) else None
    best = front(places, group.lower_is_better)
    means = [factor * places[label][1].mean for label in best]
    marks: list[Mark] = [Line(FRONT, [places[label][0] for label in best], means)]
    order = [*places]
    if len(order) >= NAMES:
        order.sort(key=lambda label: (label != group.baseline, label not in best))
    styles = distinct(order[:NAMES], styles)
    apart = set_apart({label: places[label][0] for label in order[:NAMES]}, log is not None)
    for label in order:
        cost, standing = places[label]
        low, high, interval = [], [], ""
        if standing.low is not None and standing.high is not None:
            low, high = [factor * standing.low], [factor * standing.high]
            interval = f" [{plain(standing.low, percent)}, {plain(standing.high, percent)}]"
        marks.append(
            Points(
                styles[label],
                [apart.get(label, cost)],
                [factor * standing.mean],
                low,
                high,
                filled=standing.beside == "above",
                size=5,
                notes=[f"{plain(standing.mean, percent)}{interval}, n = {standing.n}, at {number(cost)}"],
            )
        )
    scores = [standing.mean for _, standing in places.values()]
    decades = not percent and min(scores) > 0 and spans_decades(scores)
    x, y = Axis(measure, log, thousands=measure == PARAMETERS), Axis(heading(group), 10 if decades else None)
    return Figure([Panel(marks, x, y)], (6.5, 4), group.name)
