"""Sweeps over learning rates: score against the rate, and what a budget of trials is worth.

A sweep is a method whose runs lie at several learning rates of a grid (`RunRecord.point`).
"""

from __future__ import annotations

from collections.abc import Mapping

from rankbench.reports.frames import Group
from rankbench.reports.frames.contender import by_size
from rankbench.reports.render.blocks import Picture, Section, Table
from rankbench.reports.render.figure import Axis, Figure, Mark, Panel, Points, spans_decades
from rankbench.reports.render.looks import Looks, looks
from rankbench.reports.render.numbers import MISSING, number, plain
from rankbench.reports.stats.sweep import Sweep, selected_by, sweeps
from rankbench.reports.study import Study

CAPTION = "Left: selection score, the best rate ringed. Right: expected selection score of the best of k."


def rates(study: Study) -> list[Section]:
    """A figure and a table for each task that was swept."""
    suite = study.suite
    found = [(group, swept) for group in suite.groups if (swept := sweeps(group, suite.failures))]
    methods = sorted({method for _, swept in found for method in swept}, key=by_size)
    styles = looks(methods, suite.baseline)
    return [
        Section(
            f"{group.name}: learning rates",
            [
                Picture(
                    f"learning-rates--{group.file_name}",
                    f"Score against learning rate, and the best of k trials, {group.name}",
                    CAPTION,
                    _figure(group, swept, styles),
                ),
                _table(group, swept),
            ],
        )
        for group, swept in found
    ]


def _figure(group: Group, swept: Mapping[str, Sweep], styles: Looks) -> Figure:
    """Two panels: score against learning rate, and against the number of trials."""
    chosen_by = selected_by(group)
    factor = 100 if chosen_by.percent else 1
    rates: list[Mark] = []
    trials: list[Mark] = []
    for method, sweep in swept.items():
        look = styles[method]
        scores = {point.rate: factor * point.mean for point in sweep.curve.points}
        best = [factor * score for score in sweep.best]
        rates.append(Points(look, list(scores), list(scores.values()), joined=True, size=3))
        ring = Points(look, [sweep.curve.best], [scores[sweep.curve.best]], joined=True, filled=False, size=9)
        rates.append(ring)
        trials.append(Points(look, [*range(1, len(best) + 1)], best, joined=True, size=3))
    values = [point.mean for sweep in swept.values() for point in sweep.curve.points]
    log = 10 if chosen_by.lower_is_better and spans_decades(values) else None
    score = Axis(f"selection score{' ×100' if chosen_by.percent else ''}", log)
    panels = [Panel(rates, Axis("learning rate", 10), score), Panel(trials, Axis("trials k"), score)]
    return Figure(panels, (9.5, 3.6), group.name, beside=True, shared="y")


def _table(group: Group, swept: Mapping[str, Sweep]) -> Table:
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
    return Table(header, rows)
