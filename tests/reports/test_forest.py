"""A claim drawn: the verdicts' own intervals, against the claim's bound, in the verdict's colour."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.render.figure import Figure, Level, Row
from rankbench.reports.render.plotly import plotly
from rankbench.reports.render.svg import svg
from rankbench.reports.sections.verdicts.forest import LOOKS, forest
from rankbench.reports.stats.decision import Interval

GAIN: dict[str, Any] = {
    "id": "made", "paper": "1", "sentence": "s", "source": "s", "hand": "first", "measurement": "score",
    "method": "scalora", "against": "lora", "direction": "superior", "tolerance": 0, "unit": "points",
    "why": "w", "test": "paired seeds and items",
}  # fmt: skip
RATIO = GAIN | {"measurement": "final_loss", "unit": "× LoRA's loss", "test": "paired seeds"}
HELD, OPEN = Outcome.REPRODUCED, Outcome.UNDERPOWERED


def drawn(
    given: dict[str, Any], *rows: tuple[str, Outcome, Interval | None], methods: str = "a"
) -> Figure | None:
    claim = Claim.model_validate(given)
    return forest([Verdict(claim, outcome, where, "tiny", methods, found) for where, outcome, found in rows])


def marks(figure: Figure | None, kind: type[Any]) -> list[Any]:
    assert figure
    (panel,) = figure.panels
    return [mark for mark in panel.marks if isinstance(mark, kind)]


def test_a_row_is_the_verdicts_interval_in_its_colour():
    figure = drawn(GAIN, ("movie", HELD, Interval(5, 3, 7, 3)), ("bbc", OPEN, Interval(1, -2, 4, 3)))
    rows = marks(figure, Row)
    assert [(row.name, row.middle, row.low, row.high) for row in rows] == [
        ("movie", 5, 3, 7),
        ("bbc", 1, -2, 4),
    ]
    assert [row.look for row in rows] == [LOOKS[HELD], LOOKS[OPEN]]
    assert len({look.colour for look in LOOKS.values()}) == 5, "what is not judged is grey, for both reasons"
    (bound,) = marks(figure, Level)
    assert (bound.at, bound.name, bound.vertical) == (0, "holds if > 0", True)


def test_both_bounds_of_an_equivalence_are_drawn():
    alike = GAIN | {"direction": "equivalent", "tolerance": 2}
    bounds = marks(drawn(alike, ("movie", OPEN, Interval(1, -2, 4, 3))), Level)
    assert [(bound.at, bound.name) for bound in bounds] == [(-2, "-2"), (2, "2")]


def test_ratios_are_on_a_logarithmic_axis_with_ticks_in_it():
    for found in (Interval(0.95, 0.94, 0.96, 5), Interval(0.9, 0.2, 3.0, 3), Interval(1e-4, 1e-5, 1e-3, 3)):
        figure = drawn(RATIO, ("movie", HELD, found))
        assert figure
        axis = figure.panels[0].x
        assert axis.range
        low, high = axis.range
        assert axis.log == 10
        assert low < found.low < found.high < high
        assert len(axis.ticks) > 1
        assert all(low <= tick <= high for tick in axis.ticks)


@pytest.mark.parametrize("given", [GAIN, RATIO])
def test_an_interval_without_ends_runs_from_edge_to_edge(given):
    unknown = Interval(1.2, -math.inf, math.inf, 1)
    figure = drawn(given, ("movie", OPEN, unknown))
    assert figure
    (row,) = marks(figure, Row)
    assert (row.low, row.high) == figure.panels[0].x.range
    assert b"<svg" in svg(figure)
    (trace,) = plotly(figure)["data"]
    assert math.isfinite(trace["error_x"]["array"][0])


def test_an_arrow_says_which_end_is_not_known():
    half, whole = Interval(1.2, 0.5, math.inf, 1), Interval(1, 0, 2, 3)
    figure = drawn(GAIN, ("movie", OPEN, half), ("bbc", OPEN, whole))
    assert figure
    assert [(row.open_low, row.open_high) for row in marks(figure, Row)] == [(False, True), (False, False)]
    first, second = plotly(figure)["data"]
    assert first["marker"]["symbol"] == ["circle", "triangle-right"]
    assert first["x"][1] == pytest.approx(figure.panels[0].x.range[1], rel=1e-5)
    assert second["marker"]["symbol"] == ["circle"]
    known = drawn(GAIN, ("movie", OPEN, Interval(1.2, 0.5, 2, 1)), ("bbc", OPEN, whole))
    assert known
    assert svg(figure) != svg(known)


def test_pairs_of_methods_are_named_where_they_differ():
    claim = Claim.model_validate(GAIN)
    pairs = [Verdict(claim, OPEN, "movie", "tiny", name, Interval(1, 0, 2, 3)) for name in ("a", "b")]
    assert [row.name for row in marks(forest(pairs), Row)] == ["movie: a", "movie: b"]


def test_what_was_not_measured_is_not_drawn():
    assert (
        drawn(GAIN, ("movie", OPEN, None), ("bbc", OPEN, Interval(math.nan, -math.inf, math.inf, 1))) is None
    )
    exact = drawn(GAIN, ("movie", HELD, Interval(0, 0, 0, 3)))
    assert exact
    low, high = exact.panels[0].x.range or (0, 0)
    assert low < 0 < high
