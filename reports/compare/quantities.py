"""The quantities of two paired folders that are compared: scores, losses, what was forgotten, and costs
beside the baseline's.

Scores, and rates of errors shown ×100, are compared as differences, other errors and losses as ratios; costs
as ratios too, after division by the baseline's in the same measurement of overhead, since seconds and bytes
of two machines say nothing of the code. What the runs themselves took is no such ratio: they were done one
after the other, perhaps in different nights, on a machine with other work, in a process that kept memory of
earlier runs.

A cost's replicates are fresh processes, each with its mean over the rounds; where there was one, its noise
is unknown and nothing is judged.

The least margins, below which no change counts however small the noise: half a point of a score and 1 % of
an error or loss, less than anyone chooses a method by. Of costs twice what was seen to change between two
evenings on one machine, 7 % of a step's time and 4 % of a peak: 15 % and 10 %; processes that follow one
another do not show this noise. Where it was measured on another machine, 25 %, since processors differ in how
they share a step between large products and small operations.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from rankbench.bench.records import RunRecord
from rankbench.bench.records.costs import FLOOR, TRAINER
from rankbench.reports.compare.pair import Measured, Paired
from rankbench.reports.frames.contender import Runs
from rankbench.reports.frames.views import FORGOTTEN
from rankbench.reports.render.numbers import metric_name
from rankbench.reports.stats.costs import means
from rankbench.reports.stats.evidence import gains
from rankbench.reports.stats.gate import Cell, log_ratios
from rankbench.reports.stats.summary import final_losses

Kind = Literal["score", "held-out loss", "training loss", "forgetting", "step time", "peak memory"]
Unit = Literal["points", "ratio", "plain"]
Values = dict[str, dict[int, float]]
"""Adapter -> seed, or process -> value."""

LEAST_POINTS = 0.5
LEAST_RATIO = 1.01
LEAST_COST_RATIO: dict[Kind, float] = {"step time": 1.15, "peak memory": 1.10}
LEAST_COST_RATIO_ELSEWHERE = 1.25


@dataclass(frozen=True)
class Quantity:
    """One quantity of one adapter in one place, before and after."""

    kind: Kind
    place: str
    """A task, or a measurement of overhead."""
    adapter: str
    name: str
    unit: Unit
    """A "ratio" is held as its logarithm."""
    cell: Cell

    @property
    def change(self) -> float:
        """Mean over the seeds that both have, in the unit; negative is worse."""
        cell = self.cell
        return float(gains(cell.candidate, cell.baseline, lower_is_better=cell.lower_is_better).mean())

    @property
    def means(self) -> tuple[float, float]:
        """Of the baseline and of the candidate, over the seeds that both have, in the unit."""
        sides = self.cell.baseline, self.cell.candidate
        shared = sorted(sides[0].keys() & sides[1].keys())
        before, after = (statistics.fmean(side[seed] for seed in shared) for side in sides)
        return before, after


def quantities(paired: Paired) -> Iterator[Quantity]:
    """Every quantity that both folders have for some seed."""
    for place, sides in paired.runs.items():
        yield from _scores(place, sides)
        yield from _held_out(place, sides)
        losses = [{adapter: final_losses(runs) for adapter, runs in side.items()} for side in sides]
        yield from _errors("training loss", place, "final training loss", losses)
        yield from _forgetting(place, sides)
    for both in paired.overhead:
        name, baseline = both[0].name, both[0].baseline
        elsewhere = both[0].machine != both[1].machine
        for kind, values_of in COSTS.items():
            values = [values_of(side) for side in both]
            shared = values[0].keys() & values[1].keys()
            reference = next((one for one in (baseline, TRAINER) if one in shared), FLOOR)
            yield from _costs(kind, name, reference, values, elsewhere)
            if reference == FLOOR:
                continue
            # The baseline's own cost shows only beside the frozen model's.
            own = [{name: value[name] for name in (baseline, FLOOR) if name in value} for value in values]
            yield from _costs(kind, name, FLOOR, own, elsewhere)


COSTS: dict[Kind, Callable[[Measured], Values]] = {
    "step time": lambda one: {name: dict(enumerate(means(own))) for name, own in one.seconds.items()},
    "peak memory": lambda one: {name: dict(enumerate(peaks)) for name, peaks in one.peaks.items()},
}


def costs_of(paired: Paired) -> set[Kind]:
    """Those that some contender has in both folders."""
    return {
        kind
        for before, after in paired.overhead
        for kind, values_of in COSTS.items()
        if any(not name.startswith(FLOOR) for name in values_of(before).keys() & values_of(after).keys())
    }


def _scores(place: str, sides: tuple[Runs, Runs]) -> Iterator[Quantity]:
    metrics = next(run.metrics for runs in sides[0].values() for run in runs.values())
    main = metrics.main
    values = _of_runs(sides, lambda run: run.metrics.best.get(main))
    name = metric_name(main, metrics.scale)
    lower = metrics.scale.lower_is_better
    if metrics.scale.percent:
        points = [_mapped(value, lambda score: 100 * score) for value in values]
        name += " ↓" if lower else " ↑"
        yield from _quantities("score", place, name, "points", points, lower, LEAST_POINTS)
    elif lower:
        yield from _errors("score", place, name, values)
    else:
        yield from _quantities("score", place, f"{name} ↑", "plain", values, False, 0.0)


def _held_out(place: str, sides: tuple[Runs, Runs]) -> Iterator[Quantity]:
    values = _of_runs(sides, lambda run: run.metrics.best.get(run.metrics.held_out))
    yield from _errors("held-out loss", place, "held-out loss", values)


def _forgetting(place: str, sides: tuple[Runs, Runs]) -> Iterator[Quantity]:
    """Of one text: values of two are not comparable."""
    found = [run.forgetting for runs in sides[0].values() for run in runs.values() if run.forgetting]
    for kind, text in dict.fromkeys((one.kind, one.text) for one in found):
        values = _of_runs(sides, partial(_forgotten, kind, text))
        yield from _errors("forgetting", place, FORGOTTEN[kind], values)


def _forgotten(kind: str, text: str, run: RunRecord) -> float | None:
    found = run.forgetting
    return found.value if found and (found.kind, found.text) == (kind, text) else None


def _of_runs(sides: Sequence[Runs], value_of: Callable[[RunRecord], float | None]) -> list[Values]:
    """Of the runs that have it."""
    return [
        {
            adapter: {seed: value for seed, run in runs.items() if (value := value_of(run)) is not None}
            for adapter, runs in side.items()
        }
        for side in sides
    ]


def _errors(kind: Kind, place: str, name: str, values: list[Values]) -> Iterator[Quantity]:
    """As ratios; as differences where no ratio can be taken: of a method that has a zero, and of all where
    one is below zero."""
    name = f"{name} ↓"
    every = {one: [value for side in values for value in side.get(one, {}).values()] for one in values[0]}
    has_ratios = all(value >= 0 for found in every.values() for value in found)
    above = {one for one, found in every.items() if has_ratios and all(value > 0 for value in found)}
    ratios, plain = (
        [{adapter: side[adapter] for adapter in side if (adapter in above) == wanted} for side in values]
        for wanted in (True, False)
    )
    logarithms = [_mapped(side, math.log) for side in ratios]
    yield from _quantities(kind, place, name, "ratio", logarithms, True, math.log(LEAST_RATIO))
    yield from _quantities(kind, place, name, "plain", plain, True, 0.0)


def _costs(
    kind: Kind, place: str, reference: str, values: list[Values], elsewhere: bool
) -> Iterator[Quantity]:
    """Beside `reference` in the same folder; a floor is no contender."""
    beside = [
        {
            name: log_ratios(own, side[reference])
            for name, own in side.items()
            if reference in side and name != reference and not name.startswith(FLOOR)
        }
        for side in values
    ]
    least = LEAST_COST_RATIO_ELSEWHERE if elsewhere else LEAST_COST_RATIO[kind]
    yield from _quantities(kind, place, f"{kind} ÷ {reference} ↓", "ratio", beside, True, math.log(least))


def _quantities(
    kind: Kind, place: str, name: str, unit: Unit, values: list[Values], lower_is_better: bool, least: float
) -> Iterator[Quantity]:
    before, after = values
    for adapter, seeds in before.items():
        if seeds.keys() & after.get(adapter, {}).keys():
            cell = Cell(
                f"{place}: {kind} ({unit})",
                f"{adapter}: {kind}",
                seeds,
                after[adapter],
                lower_is_better,
                least,
            )
            yield Quantity(kind, place, adapter, name, unit, cell)


def _mapped(values: Values, change: Callable[[float], float]) -> Values:
    return {a: {seed: change(value) for seed, value in seeds.items()} for a, seeds in values.items()}
