"""When the data decide: the levels of all tests and intervals, and the tests that a value lies in a range.

The claim that a value lies in a range is tested twice at `ALPHA`: it holds where data that speak so much for
it would be rare were it untrue, fails where data that speak so much against it would be rare were it true,
and is open where the data reject neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from rankbench.reports.render.numbers import number
from rankbench.reports.stats.evidence import Evidence, StatsError, Unjudged, evidence

LEVEL = 0.95
"""Of the intervals of scores, gains and costs."""
ALPHA = 0.05
"""Of every test; a difference whose p is above it is none that the data show."""
CONFIDENCE = 1 - 2 * ALPHA
"""Of a claim's interval: each of its ends is a one-sided test at `ALPHA`."""
POWER = 0.8
"""With which the least gain that a number of seeds finds is found."""

Key = TypeVar("Key")
Decision = Literal["holds", "fails", "open"]


class Tested(NamedTuple):
    """The p-values of a claim; after `holm_of_both`, adjusted."""

    p_if_untrue: float
    """Of data that speak so much for it, were it untrue."""
    p_if_true: float
    """Of data that speak so much against it, were it true."""

    @property
    def decision(self) -> Decision:
        """What the data say."""
        return "holds" if self.p_if_untrue < ALPHA else "fails" if self.p_if_true < ALPHA else "open"


@dataclass(frozen=True)
class Range:
    """The values that a claim accepts; `strict` leaves out the ends themselves."""

    low: float = -math.inf
    high: float = math.inf
    strict: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (math.isinf(self.low) and math.isinf(self.high)):
            raise StatsError(f"a range from {self.low} to {self.high} decides nothing")

    def test(self, found: Evidence) -> Tested:
        """By one-sided tests at its ends: that it lies within, at both of them, is Schuirmann's (1987) test
        of equivalence. That it lies without can be wrong in two ways, which count together: a value at one
        end is seen as far beyond the other end as often as the p of this end says."""
        untrue = max(found.p_at_most(self.low), found.p_at_least(self.high))
        above = found.p_at_most(self.high) + found.p_at_most(self.low)
        below = found.p_at_least(self.low) + found.p_at_least(self.high)
        return Tested(float(untrue), float(min(1.0, above, below)))

    def holds(self, low: float, high: float) -> Decision:
        """For values that have no p: whether all from `low` to `high` lie in it, or none."""
        inside = self.low <= low and high <= self.high
        outside = high < self.low or low > self.high
        if self.strict:
            inside = self.low < low and high < self.high
            outside = high <= self.low or low >= self.high
        return "holds" if inside else "fails" if outside else "open"

    def logarithms(self) -> Range:
        """The same of the logarithms."""
        low, high = (math.log(end) if end > 0 else -math.inf for end in (self.low, self.high))
        return Range(low, high, self.strict)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{'>' if self.strict else '≥'} {number(self.low)}"
        if math.isinf(self.low):
            return f"{'<' if self.strict else '≤'} {number(self.high)}"
        return f"{number(self.low)} to {number(self.high)}"


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusted p-values (Holm 1979): reject where below alpha, and at most alpha of the families hold
    any false rejection."""
    adjusted, least = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = least
    return {key: adjusted[key] for key in p_values}


def holm_of_both(tests: Mapping[Key, Tested]) -> dict[Key, Tested]:
    """Both kinds of p-value adjusted over the tests, each kind on its own: with probability 1 - ALPHA no
    claim wrongly holds, and as surely none wrongly fails."""
    untrue = holm({key: one.p_if_untrue for key, one in tests.items()})
    true = holm({key: one.p_if_true for key, one in tests.items()})
    return {key: Tested(untrue[key], true[key]) for key in tests}


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
