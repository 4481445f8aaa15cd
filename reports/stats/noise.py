"""How much a method differs from itself over seeds, and what that hides."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import ncf, t

from rankbench.reports.stats.decision import ALPHA, POWER
from rankbench.reports.stats.evidence import Array, Unjudged, counted


class NoiseCard(NamedTuple):
    """One method against itself, in units of the score."""

    seeds: int
    sd: float
    """Of single runs over seeds."""
    per_side: int
    """Seeds in each of the two disjoint sets."""
    differences: Array
    """Sorted differences between the means of two disjoint sets, over all such pairs; symmetric around 0."""
    reach: float
    """The difference between two means of `seeds` runs each that noise alone exceeds in one of 20 cases."""


def noise_card(scores: Iterable[float]) -> NoiseCard | Unjudged:
    """A method's scores over seeds (one each) against themselves: every pair of disjoint halves.

    The mean square of the differences is 2 sd² / per_side exactly. Enumerates C(n, n/2) · C(n - n/2, n/2)
    pairs, so at most 12 seeds are used, the first ones.
    """
    values = np.array(list(scores), dtype=np.float64)[:12]
    if not np.isfinite(values).all():
        return Unjudged("a score is not a finite number")
    count = len(values)
    if count < 2:
        return Unjudged(f"{counted(count, 'seed')}; noise needs two")
    if not np.ptp(values):
        return Unjudged(f"all {count} seeds score the same")
    half = count // 2
    means = [
        (values[list(left)].mean(), values[list(right)].mean())
        for left in combinations(range(count), half)
        for right in combinations(sorted(set(range(count)) - set(left)), half)
    ]
    sd = float(values.std(ddof=1))
    reach = float(t.isf(0.025, count - 1)) * sd * math.sqrt(2 / count)
    return NoiseCard(count, sd, half, np.sort([left - right for left, right in means]), reach)


def minimum_detectable_effect(sd: float, seeds: int, *, power: float = POWER) -> float | Unjudged:
    """The smallest true difference that a paired t-test over `seeds` finds with probability `power`.

    `sd` is the baseline's over seeds (`NoiseCard.sd`). The difference is taken to spread by sqrt(2) sd, as
    if pairing did not help; where both methods share the luck of a seed, smaller differences are found.
    """
    if seeds < 2:
        return Unjudged(f"{counted(seeds, 'seed')}; a test needs two")
    if not sd > 0:
        return Unjudged("the baseline's spread over seeds is zero or unknown")
    critical = float(t.isf(ALPHA / 2, seeds - 1))

    def missing(shift: float) -> float:
        """Power that a difference of so many standard errors lacks: t² is a noncentral F."""
        return power - float(ncf.sf(critical**2, 1, seeds - 1, shift**2))

    shift = brentq(missing, 0, 2 * critical / (1 - power))
    return float(shift) / math.sqrt(seeds) * math.sqrt(2) * sd
