"""The interval that a verdict rests on, by the test that the claim names."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from scipy.special import stdtrit

from reports.markdown import number

CONFIDENCE = 0.90
"""Two-sided: each end is a one-sided test at 5 %."""


class Test(StrEnum):
    """How the spread of a measured quantity is taken."""

    PAIRED_SEEDS = "paired seeds"
    SEEDS = "seeds"
    PAIRED_ROUNDS = "paired rounds"
    EXACT = "exact"
    """No spread is due: the range of what was seen."""

    __test__ = False


class Interval(NamedTuple):
    """Estimate, its two-sided interval, and the number of values."""

    estimate: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{number(self.estimate)} [{number(self.low)}, {number(self.high)}] ({self.n})"


def interval(values: Sequence[float], test: Test) -> Interval:
    """Student's t interval of the mean; for `exact` the smallest and largest value.

    Unbounded where the spread is unknown: from one value, or from paired values that are all alike, as
    the scores of few test items easily are. Needs at least one value.
    """
    mean, n = statistics.fmean(values), len(values)
    if test is Test.EXACT:
        return Interval(mean, min(values), max(values), n)
    if n == 1 or (test is not Test.SEEDS and min(values) == max(values)):
        return Interval(mean, -math.inf, math.inf, n)
    half = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)
