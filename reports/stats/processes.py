"""A cost over the fresh processes that it was measured in: the process is the unit, not the round.

The rounds of one process share its memory layout, its threads and its hour: their spread says nothing of
what another process would measure. So each process gives one number, and the interval is Student's t over
the processes, on logarithms, since costs are ratios. One process gives a number without an interval.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from rankbench.bench.records.costs import OverheadRecord
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import Unjudged, evidence

ONE_PROCESS = "one process: its rounds are no replicates, so nothing can be judged by them"

Rounds: TypeAlias = Sequence[Sequence[float]]
"""Process -> round -> seconds."""


class Estimate(NamedTuple):
    """Geometric mean over the processes, and its interval; None of one process, or of equal ones."""

    middle: float
    low: float | None = None
    high: float | None = None


def estimate(values: Iterable[float]) -> Estimate:
    """Of one positive number a process."""
    logarithms = np.log(list(values))
    found = evidence(logarithms)
    middle = math.exp(logarithms.mean())
    if isinstance(found, Unjudged):
        return Estimate(middle)
    low, high = found.interval(LEVEL)
    return Estimate(middle, math.exp(low), math.exp(high))


def medians(processes: Rounds) -> list[float]:
    """A process's usual step."""
    return [statistics.median(rounds) for rounds in processes]


def means(processes: Rounds) -> list[float]:
    """A process's step with its share of what is not done in every step."""
    return [statistics.fmean(rounds) for rounds in processes]


def median_ratios(own: Rounds, other: Rounds) -> list[float]:
    """A process's usual ratio of two steps of one round."""
    return [float(np.median(np.divide(*pair))) for pair in zip(own, other, strict=True)]


def mean_ratios(own: Rounds, other: Rounds) -> list[float]:
    """A process's ratio of two mean steps."""
    return [one / against for one, against in zip(means(own), means(other), strict=True)]


def ratios(record: OverheadRecord, to: str) -> dict[str, Estimate]:
    """Contender -> step time over that of `to` in the same round; empty if `to` was not measured."""
    if to not in record.seconds:
        return {}
    reference = record.seconds[to]
    return {name: estimate(median_ratios(own, reference)) for name, own in record.seconds.items()}


def peak_ratios(record: OverheadRecord, to: str) -> dict[str, Estimate]:
    """Contender -> peak memory over that of `to`; empty if that was not measured."""
    reference = record.peak_resident.get(to)
    if reference is None:
        return {}
    return {
        name: estimate(one / other for one, other in zip(peaks, reference, strict=True))
        for name, peaks in record.peak_resident.items()
    }
