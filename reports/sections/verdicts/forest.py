"""The picture of a claim: a row a setting, with what was measured, its interval and the bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.schema import Outcome
from rankbench.reports.render.figure import Axis, Figure, Level, Mark, Panel, Row
from rankbench.reports.render.looks import Look
from rankbench.reports.render.numbers import number
from rankbench.reports.stats.decision import Range

LOOKS = {
    outcome: Look(outcome.value, colour)
    for outcome, colour in zip(
        Outcome, ("#009E73", "#D55E00", "#0072B2", "#E69F00", "#999999", "#999999"), strict=True
    )
}
"""Okabe and Ito's green, red, blue and orange, which any eyes tell apart; grey is not judged."""
MARGIN = 0.05
"""Of the axis, left and right of all that is drawn."""
CLOSE = 4
"""Ratios within a factor of this have evenly spaced ticks."""


def forest(verdicts: Sequence[Verdict]) -> Figure | None:
    """Of one claim; None where nothing was measured."""
    drawn = [(one, one.found) for one in verdicts if one.found and math.isfinite(one.found.estimate)]
    if not drawn:
        return None
    claim = drawn[0][0].claim
    bounds = [end for end in (claim.acceptance.low, claim.acceptance.high) if math.isfinite(end)]
    values = [value for _, found in drawn for value in found[:3] if math.isfinite(value)]
    low, high = _widened([*values, *bounds], log=claim.is_ratio)
    several = len({one.methods for one, _ in drawn}) > 1
    names = [f"{one.where}: {one.methods}" if several else one.where for one, _ in drawn]
    marks: list[Mark] = [*_levels(claim.acceptance)]
    for name, (one, (middle, start, end, *_)) in zip(names, drawn, strict=True):
        ends = max(start, low), min(end, high)
        unknown = math.isinf(start), math.isinf(end)
        marks.append(Row(LOOKS[one.outcome], name, middle, *ends, *unknown, listed=True))
    x = Axis(
        claim.unit,
        log=10 if claim.is_ratio else 0,
        range=(low, high),
        ticks=_ticks(low, high, claim.is_ratio),
    )
    return Figure([Panel(marks, x, Axis(categories=names))], (8.5, 1.1 + 0.32 * len(names)))


def _levels(accepted: Range) -> list[Level]:
    """The bounds, one of them with the whole rule as its name."""
    low, high = (math.isfinite(end) for end in (accepted.low, accepted.high))
    if low and high:
        return [Level(end, number(end), vertical=True) for end in (accepted.low, accepted.high)]
    return [Level(accepted.low if low else accepted.high, f"holds if {accepted}", vertical=True)]


def _widened(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    scaled = [math.log(value) for value in values] if log else values
    low, high = min(scaled), max(scaled)
    margin = MARGIN * (high - low) or abs(high) or 1.0
    ends = low - margin, high + margin
    return (math.exp(ends[0]), math.exp(ends[1])) if log else ends


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """On logarithmic axes alone: a narrow one would have none, and a wide one powers of ten only."""
    if not log:
        return []
    if high / low < CLOSE:
        rough = (high - low) / 4
        power = 10 ** math.floor(math.log10(rough))
        step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough)
        return [round(count * step, 9) for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    nice = (1, 2, 5) if len(decades) < CLOSE else (1,)
    return [tick for decade in decades for part in nice if low <= (tick := part * 10**decade) <= high]
