"""What accuracy costs: score against a measure of cost, and the adapters that no other one beats in both."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rankbench.reports.frames import Group
from rankbench.reports.render.blocks import Section, Widget
from rankbench.reports.render.interactive import GREY, UNSTYLED, Canvas, Json, bars
from rankbench.reports.render.plot import DASHES, Styles, spans_decades
from rankbench.reports.sections.board import unit
from rankbench.reports.stats.costs import PARAMETERS
from rankbench.reports.stats.standing import Standing
from rankbench.reports.study import Study

APART = 0.015
SYMBOLS = ("circle", "square", "diamond", "triangle-up")
"""In place of the dashes of `reports.render.plot`: methods outnumber the colours."""

Points = dict[str, tuple[float, Standing]]
"""Adapter -> cost and score."""


def section(study: Study) -> Section | None:
    """The choice of a measure, and a figure a task: on the page alone."""
    measures = tradeoffs(study)
    return (
        Section("Accuracy and cost", [Widget("tradeoff.html", {"measures": measures})]) if measures else None
    )


def tradeoffs(study: Study) -> dict[str, dict[str, Json]]:
    """Measure of cost -> task -> Plotly figure."""
    found: dict[str, dict[str, Json]] = {}
    for group in study.shown.groups:
        if group.is_rank_sweep:
            continue
        scores = study.standings[group]
        for measure, values in study.costs[group].items():
            points = {label: (values[label], scores[label]) for label in values if label in scores}
            if len(points) > 1:
                canvas = draw(group, points, measure, study.styles)
                found.setdefault(measure, {})[group.name] = canvas.figure()
    return found


def front(points: Points, lower_is_better: bool) -> list[str]:
    """The adapters for which no other is both as cheap and as good, and better in one; by cost."""
    sign = -1 if lower_is_better else 1

    def beaten(label: str) -> bool:
        cost, standing = points[label]
        return any(
            other_cost <= cost
            and sign * other.mean >= sign * standing.mean
            and (other_cost, other.mean) != (cost, standing.mean)
            for other_cost, other in points.values()
        )

    return sorted((label for label in points if not beaten(label)), key=lambda label: points[label][0])


def set_apart(costs: Mapping[str, float], log: bool) -> dict[str, float]:
    """Where points are drawn: at their costs, but none closer to the one before than `APART` of the axis."""
    scaled = {label: math.log(cost) if log else cost for label, cost in costs.items()}
    step = APART * (max(scaled.values()) - min(scaled.values()))
    drawn: dict[str, float] = {}
    last = -math.inf
    for label in sorted(scaled, key=lambda label: scaled[label]):
        last = drawn[label] = max(scaled[label], last + step)
    return {label: math.exp(place) if log else place for label, place in drawn.items()}


def draw(group: Group, points: Points, measure: str, styles: Styles) -> Canvas:
    """A point an adapter, with the interval of its score; filled: shown to beat LoRA."""
    main = unit(group)
    log = spans_decades((cost for cost, _ in points.values()), 20)
    places = set_apart({label: cost for label, (cost, _) in points.items()}, log)
    canvas = Canvas(1, 380)
    canvas.title(group.name)
    best = front(points, group.lower_is_better)
    canvas.add(
        0,
        "Pareto front",
        x=[places[label] for label in best],
        y=[main.shown(points[label][1].mean) for label in best],
        mode="lines",
        line={"color": GREY, "width": 2, "dash": "dot"},
        hoverinfo="skip",
    )
    for label, (cost, standing) in points.items():
        look = styles.get(label, UNSTYLED)
        colour, symbol = look["color"], SYMBOLS[DASHES.index(look["linestyle"])]
        mean, low, high = main.shown(standing.mean), standing.low, standing.high
        ends, interval = {}, ""
        if low is not None and high is not None:
            ends = bars([mean], [main.shown(low)], [main.shown(high)], colour)
            interval = f" [{main.text(low)}, {main.text(high)}]"
        canvas.add(
            0,
            label,
            x=[places[label]],
            y=[mean],
            error_y=ends,
            customdata=[cost],
            mode="markers",
            marker={
                "size": 10,
                "color": colour,
                "symbol": symbol if standing.beside == "above" else f"{symbol}-open",
            },
            hovertemplate=f"{main.text(standing.mean)}{interval}, n = {standing.n}, at %{{customdata:,}}",
        )
    values = [standing.mean for _, standing in points.values()]
    canvas.axis("y", 0, main.name, log=not group.scale.percent and spans_decades(values))
    canvas.axis("x", 0, measure, log=log, tickformat="~s" if measure == PARAMETERS else "~g")
    return canvas
