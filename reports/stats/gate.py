"""Did a re-run of a suite get worse: per cell, on paired seeds, against the noise that was measured.

A cell is REGRESSED where two things hold. Its mean change is below zero by a one-sided t-test, Holm-adjusted
over all cells, so that at most ALPHA of the re-runs of an unchanged suite raise any alarm. And the change
exceeds the margin: the standard deviation over seeds of the method in the baseline, or the usual one of its
task, the median of its methods', where that is larger. So what another seed does as well is never called a
regression, nor a loss let pass because another method now and then collapses. It is shown not inferior where
the change is surely above -margin.

Three seeds say little about the spread of one cell, so the spread of the paired changes is pooled over the
cells of a task, and widened for a method that spreads more than others over all tasks; a cell that
still spreads more keeps its own. Cells with bit-identical scores are left out: they would hide the spread
of those that changed. Where few cells of a task changed, as when one adapter's code was touched, the
spread of all of its baselines over seeds is pooled with theirs, √2 times as wide: two independent runs of a
seed differ by no more. Baselines that are all alike, as a constant answer's are, tell of no spread. That
spread also judges a cell of which a single seed was run again; only where no cell of a task has a second
seed, nothing can be. Simulated over 4 tasks × 5 methods with 3 seeds, at most 5 % of the re-runs raise an
alarm, also where one method spreads three times as much as the rest; of losses of four standard deviations
over seeds at least 90 % are caught (five seeds: of three standard deviations; one seed of the three: of
nine).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rankbench.reports.stats.decision import ALPHA, holm
from rankbench.reports.stats.evidence import Array, Evidence, StatsError, gains

ENOUGH_DEGREES = 8
"""Of the paired changes of a task: below, the spread over seeds is pooled with theirs."""
INDEPENDENT = math.sqrt(2)
"""Spread of a change, in spreads over seeds, of two runs of a seed that have nothing in common."""

Verdict = Literal["identical", "not inferior", "inconclusive", "regressed", "cannot be judged"]


@dataclass(frozen=True)
class Cell:
    """One figure of a suite before and after: seed -> score. Only the seeds of both are compared; those
    that the baseline alone has tell of the noise."""

    task: str
    """Cells of one task, in one unit, share the measurement of their noise."""
    method: str
    """Cells of one method share how much more than the others it spreads."""
    baseline: Mapping[int, float]
    candidate: Mapping[int, float]
    lower_is_better: bool = False
    least_margin: float = 0.0
    """A change no larger than this is never a regression, however small the noise."""


@dataclass(frozen=True)
class Checked:
    """A cell with its verdict; changes and margin in the unit of the scores, negative is worse."""

    cell: Cell
    verdict: Verdict
    seeds: int
    """That both sides have."""
    change: float | None = None
    standard_error: float | None = None
    margin: float | None = None
    p: float | None = None
    """Of "not worse than before", one-sided, after Holm over the cells that changed."""


def log_ratios(seconds: Mapping[int, float], reference: Mapping[int, float]) -> dict[int, float]:
    """Seed -> log(seconds / reference's seconds in the same suite run): the only timings that may be
    compared between machines. `exp` of a change in them is a ratio; lower is better.
    Raises StatsError for a cost that is not above zero."""
    if min([*seconds.values(), *reference.values()], default=1.0) <= 0:
        raise StatsError("a cost of zero or less has no ratio")
    return {seed: math.log(seconds[seed] / reference[seed]) for seed in seconds.keys() & reference.keys()}


def check_cells(cells: Sequence[Cell]) -> list[Checked]:
    """Judge every cell, in the order given. The re-run regressed if any verdict is "regressed"."""
    changes = [gains(cell.candidate, cell.baseline, lower_is_better=cell.lower_is_better) for cell in cells]
    before: dict[str, list[Array]] = {cell.task: [] for cell in cells}
    changed: dict[str, list[Array]] = {cell.task: [] for cell in cells}
    for cell, change in zip(cells, changes, strict=True):
        before[cell.task].append(_array(cell.baseline))
        if change.any():
            changed[cell.task].append(change)
    noises = {task: _usual(samples) for task, samples in before.items()}
    spreads = {task: _spread(samples, before[task]) for task, samples in changed.items()}
    relative: dict[str, list[Array]] = {cell.method: [] for cell in cells}
    for cell, change in zip(cells, changes, strict=True):
        variance = spreads[cell.task][0]
        if change.any() and variance > 0:
            relative[cell.method].append(_sample(cell, change) / math.sqrt(variance))
    unrest = {method: max(1.0, _pooled(samples)[0]) for method, samples in relative.items()}
    tests = {}
    for index, (cell, change) in enumerate(zip(cells, changes, strict=True)):
        variance, degrees = spreads[cell.task]
        if change.any() and degrees:
            own, _ = _pooled([_sample(cell, change)])
            # Changes that are all alike have no spread: any is sure.
            spread = max(own, variance * unrest[cell.method], np.finfo(np.float64).tiny)
            tests[index] = Evidence(
                change.mean(), np.float64(spread / len(change)), np.float64(0), degrees + 1, items=1
            )
    adjusted = holm({index: float(test.p_at_least(0.0)) for index, test in tests.items()})
    return [
        _check(cell, change, tests.get(index), adjusted.get(index), noises[cell.task])
        for index, (cell, change) in enumerate(zip(cells, changes, strict=True))
    ]


def _check(cell: Cell, change: Array, test: Evidence | None, p: float | None, noise: float) -> Checked:
    if test is None or p is None:
        identical = len(change) > 0 and not change.any()
        return Checked(cell, "identical" if identical else "cannot be judged", len(change))
    own, _ = _pooled([_array(cell.baseline)])
    margin = max(math.sqrt(max(own, noise)), cell.least_margin)
    verdict: Verdict = "inconclusive"
    if p < ALPHA and test.estimate < -margin:
        verdict = "regressed"
    elif test.p_at_most(-margin) < ALPHA:
        verdict = "not inferior"
    return Checked(cell, verdict, len(change), float(test.estimate), float(test.standard_error), margin, p)


def _spread(changed: Sequence[Array], before: Sequence[Array]) -> tuple[float, int]:
    """Variance of a task's paired changes, and its degrees of freedom."""
    own = _pooled(changed)
    if own[1] >= ENOUGH_DEGREES:
        return own
    return _pooled([*changed, *(INDEPENDENT * sample for sample in before if np.ptp(sample) > 0)])


def _sample(cell: Cell, change: Array) -> Array:
    """What a cell itself tells of the spread of its change: a single change nothing, its baseline does."""
    return change if len(change) > 1 else INDEPENDENT * _array(cell.baseline)


def _pooled(samples: Iterable[Array]) -> tuple[float, int]:
    """Variance within the samples and its degrees of freedom; (0, 0) where none has two values."""
    kept = [sample for sample in samples if len(sample) > 1]
    degrees = sum(len(sample) - 1 for sample in kept)
    squares = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in kept)
    return (squares / degrees if degrees else 0.0), degrees


def _usual(samples: Iterable[Array]) -> float:
    """The median of the variances within the samples that spread; 0 where none does."""
    variances = [float(sample.var(ddof=1)) for sample in samples if len(sample) > 1 and np.ptp(sample) > 0]
    return float(np.median(variances)) if variances else 0.0


def _array(scores: Mapping[int, float]) -> Array:
    return np.array(list(scores.values()), dtype=np.float64)
