"""What accuracy costs: score against a measure of cost, and the adapters that no other one beats in both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from reports.board import Scale, scale
from reports.costs import PARAMETERS, costs
from reports.interactive import GREY, UNSTYLED, bars, canvas, name_axes, plain, words
from reports.load import Group, Suite
from reports.plot import Styles, spans_decades
from reports.standing import Standing, standings

APART = 0.015

Points = dict[str, tuple[float, Standing]]
"""Adapter -> cost and score."""


def tradeoffs(suite: Suite, styles: Styles) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure of cost -> task -> Plotly figure."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for group in suite.groups:
        if group.is_rank_sweep:
            continue
        scores = standings(group)
        for measure, values in costs(group, suite).items():
            points = {label: (values[label], scores[label]) for label in values if label in scores}
            if len(points) > 1:
                drawn = plain(draw(group, points, measure, styles))
                found.setdefault(measure, {})[group.name] = drawn
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


def draw(group: Group, points: Points, measure: str, styles: Styles) -> go.Figure:
    """A point an adapter, with the interval of its score; filled: tied with the best."""
    unit = scale(group)
    figure = canvas(1, 380)
    best = front(points, unit.lower_is_better)
    log = spans_decades((cost for cost, _ in points.values()), 20)
    places = set_apart({label: cost for label, (cost, _) in points.items()}, log)
    figure.add_scatter(
        x=[places[label] for label in best],
        y=[unit.shown(points[label][1].mean) for label in best],
        mode="lines",
        line={"color": GREY, "width": 2, "dash": "dot"},
        name="Pareto front",
        hoverinfo="skip",
    )
    for label, (cost, standing) in points.items():
        _draw_point(figure, label, (places[label], cost), standing, unit, styles)
    name_axes(
        figure,
        0,
        measure,
        unit.name,
        log=not unit.percent and spans_decades(standing.mean for _, standing in points.values()),
    )
    figure.update_layout(
        title={"text": words(group.name)},
        xaxis={"type": "log" if log else "linear", "tickformat": "~s" if measure == PARAMETERS else "~g"},
    )
    return figure


def _draw_point(
    figure: go.Figure,
    label: str,
    place: tuple[float, float],
    standing: Standing,
    unit: Scale,
    styles: Styles,
) -> None:
    """`place`: where it is drawn, and the cost that it has."""
    colour = styles.get(label, UNSTYLED)["color"]
    mean = unit.shown(standing.mean)
    ends = None
    if standing.low is not None and standing.high is not None:
        ends = bars([mean], [unit.shown(standing.low)], [unit.shown(standing.high)], colour)
    interval = f" [{unit.text(standing.low)}, {unit.text(standing.high)}]" if ends else ""
    figure.add_scatter(
        x=[place[0]],
        customdata=[place[1]],
        y=[mean],
        error_y=ends,
        mode="markers",
        marker={"size": 10, "color": colour, "symbol": "circle" if standing.tied else "circle-open"},
        name=words(label),
        hovertemplate=f"{unit.text(standing.mean)}{interval} (n = {standing.n}) at %{{customdata:,}}",
    )
