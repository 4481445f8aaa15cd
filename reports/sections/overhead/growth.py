"""How a step's cost grows with rank, width and layers, beside the cost model.

On n layers of m × m with t tokens and rank r, the thin products of LoRA take n·2tmr operations, and
ScaLoRA's work before a step n·(m²r + 2mr²): the fold of a rank-r difference, and Gram matrices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rankbench.bench.records import GrowthPoint
from rankbench.bench.records.costs import FLOOR
from rankbench.reports.frames import Overhead
from rankbench.reports.render.blocks import Block, Table
from rankbench.reports.render.numbers import MISSING
from rankbench.reports.render.words import words
from rankbench.reports.stats.costs import Rounds, medians
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import Unjudged, evidence

Costs = dict[str, NDArray[np.float64]]
"""What is measured -> milliseconds or operations, (points, processes)."""


def growth(record: Overhead) -> list[Block]:
    """For each axis the costs at its points, and at the end all exponents."""
    parts: list[Block] = [words("overhead", "growth")]
    exponents = []
    for axis, group in groupby(record.growth, lambda point: point.axis):
        points = list(group)
        values = [getattr(point, axis) for point in points]
        measured = _costs(points)
        expected = {} if record.tokens is None else _operations(points, record.tokens)
        rows = [
            [str(value), *(f"{costs[row].mean():.2f}" for costs in measured.values())]
            for row, value in enumerate(values)
        ]
        parts.append(Table([axis, *measured], rows, words=0))
        exponents += [
            [axis, name, _exponents(values, measured[name]), _exponents(values, operations)]
            for name, operations in expected.items()
        ]
    fitted = Table(["axis", "cost", "exponent", "expected"], exponents, words=2)
    return [*parts, fitted, words("overhead", "exponents", level=LEVEL)]


def exponent(values: Sequence[float], costs: Sequence[float]) -> float | None:
    """Least-squares slope of log cost over log value, for positive costs; None of fewer than two."""
    positive = {value: cost for value, cost in zip(values, costs, strict=True) if cost > 0}
    if len(positive) < 2:
        return None
    return float(np.polyfit(np.log(list(positive)), np.log(list(positive.values())), 1)[0])


def _exponents(values: Sequence[float], costs: NDArray[np.float64]) -> str:
    """Over the processes; nothing where one of them has none."""
    fitted = [exponent(values, of_process) for of_process in costs.T.tolist()]
    known = np.array([one for one in fitted if one is not None])
    if len(known) < len(fitted):
        return MISSING
    found = evidence(known)
    if isinstance(found, Unjudged):
        return f"{known.mean():z.2f}"
    low, high = found.interval(LEVEL)
    return f"{known.mean():z.2f} [{low:z.2f}, {high:z.2f}]"


def _costs(points: Sequence[GrowthPoint]) -> Costs:
    """The floor's, and what each adapter adds to it in the same round."""
    costs = {FLOOR: _medians(point.seconds[FLOOR] for point in points)}
    for name in _adapters(points):
        added = (np.subtract(point.seconds[name], point.seconds[FLOOR]).tolist() for point in points)
        costs[name] = _medians(added)
        if name in points[0].rescale:
            costs[_rescaling(name)] = _medians(point.rescale[name] for point in points)
    return costs


def _operations(points: Sequence[GrowthPoint], tokens: int) -> Costs:
    """What the cost model says of the same costs."""
    thin = np.array([[2.0 * p.layers * tokens * p.width * p.rank] for p in points])
    rescaling = np.array([[p.layers * (p.width**2 * p.rank + 2.0 * p.width * p.rank**2)] for p in points])
    costs: Costs = {}
    for name in _adapters(points):
        costs[name] = thin
        if name in points[0].rescale:
            costs[name] = thin + rescaling
            costs[_rescaling(name)] = rescaling
    return costs


def _adapters(points: Sequence[GrowthPoint]) -> list[str]:
    return [name for name in points[0].seconds if name != FLOOR]


def _rescaling(name: str) -> str:
    return f"{name}, rescaling"


def _medians(points: Iterable[Rounds]) -> NDArray[np.float64]:
    """Milliseconds, (points, processes)."""
    return 1000 * np.array([medians(processes) for processes in points])
