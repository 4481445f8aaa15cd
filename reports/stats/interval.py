"""The interval that a verdict rests on, by the test that the claim names."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rankbench.reports.render.markdown import number
from rankbench.reports.stats.decision import CONFIDENCE
from rankbench.reports.stats.evidence import Unjudged, evidence


class Test(StrEnum):
    """How the spread of a measured quantity is taken."""

    PAIRED_SEEDS_AND_ITEMS = "paired seeds and items"
    """Over the seeds alone where there are no predictions."""
    PAIRED_SEEDS = "paired seeds"
    SEEDS = "seeds"
    PAIRED_PROCESSES = "paired processes"
    EXACT = "exact"
    """No spread is due: the range of what was seen."""

    __test__ = False


class Interval(NamedTuple):
    """Estimate, its two-sided interval, and the number of values."""

    estimate: float
    low: float
    high: float
    n: int
    """Seeds or processes."""
    items: int = 1
    """Test items that each of them has; 1 where they count as fixed."""

    def __str__(self) -> str:
        n = f"{self.n} × {self.items}" if self.items > 1 else f"{self.n}"
        if math.isnan(self.estimate) or (math.isinf(self.low) and math.isinf(self.high)):
            return f"{number(self.estimate)} [spread unknown] ({n})"
        if self.low == self.high:
            return (
                f"{number(self.estimate)} ({n}, all alike)"
                if self.n > 1
                else f"{number(self.estimate)} ({n})"
            )
        return f"{number(self.estimate)} [{number(self.low)}, {number(self.high)}] ({n})"

    def ratio(self) -> Interval:
        """That of a ratio, from that of its logarithm: turned upside down, it is the reciprocal."""
        low, high = (math.exp(end) if math.isfinite(end) else end for end in (self.low, self.high))
        return self._replace(estimate=math.exp(self.estimate), low=low, high=high)


def interval(values: ArrayLike, test: Test) -> Interval:
    """That of the mean of (seeds,) or (seeds, items), as `stats.evidence.evidence` has it: Student's t
    over seeds alone. For `exact` the smallest and largest value.

    Unbounded where the spread is unknown: from one value, or from paired values that are all alike, as
    the scores of few test items easily are. Needs at least one value.
    """
    table = np.asarray(values, dtype=np.float64)
    mean, n = float(table.mean()), len(table)
    if test is Test.EXACT:
        return Interval(mean, float(table.min()), float(table.max()), n)
    found = evidence(table)
    if isinstance(found, Unjudged):
        unknown = n == 1 or test not in (Test.SEEDS, Test.PAIRED_PROCESSES)
        return Interval(mean, -math.inf, math.inf, n) if unknown else Interval(mean, mean, mean, n)
    low, high = found.interval(CONFIDENCE)
    return Interval(mean, float(low), float(high), n, found.items)
