"""A claim decided on measured values: in each of its settings an interval, and a pair of one-sided tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.stats.decision import holm_of_both
from rankbench.reports.stats.evidence import Array, Evidence, StatsError, evidence
from rankbench.reports.stats.interval import Interval, Test, interval


class Decided(NamedTuple):
    """A claim in one setting; no p-values where the spread is unknown, or none is due."""

    found: Interval
    """Of the claimed quantity, in its unit."""
    outcome: Outcome
    p_if_untrue: float | None = None
    p_if_true: float | None = None
    """Those of `reports.stats.decision.Tested`, Holm-adjusted over the settings."""


def effects(own: Mapping[int, ArrayLike], other: Mapping[int, ArrayLike] | None, *, ratio: bool) -> Array:
    """A method's values, or their differences or log ratios to the other's, on the seeds (processes) of both.

    Returns (seeds,) or (seeds, items). Raises StatsError for the ratio of what is not above 0.
    """
    if other is None:
        return np.array(list(own.values()), np.float64)
    common = sorted(own.keys() & other.keys())
    values = np.array([own[key] for key in common], np.float64)
    against = np.array([other[key] for key in common], np.float64)
    if not ratio:
        return values - against
    if min(values.min(initial=1.0), against.min(initial=1.0)) <= 0:
        raise StatsError("a value that is not above 0 has no ratio")
    return np.log(values) - np.log(against)


def measured(claim: Claim, values: Array) -> Interval:
    """Of the claimed quantity, in its unit; `values` as `effects` gives them."""
    found = interval(values, claim.test)
    return found.ratio() if claim.is_ratio else found


def decide(claim: Claim, settings: Sequence[Array]) -> list[Decided]:
    """The claim in each of its settings, on values (seeds,) or (seeds, items) each. What has no spread is
    compared as it is, and does not count in Holm."""
    accepted = claim.acceptance.logarithms() if claim.is_ratio else claim.acceptance
    judged = [None if claim.test is Test.EXACT else evidence(values) for values in settings]
    tested = holm_of_both(
        {place: accepted.test(one) for place, one in enumerate(judged) if isinstance(one, Evidence)}
    )
    decided = []
    for place, values in enumerate(settings):
        found = measured(claim, values)
        if test := tested.get(place):
            decided.append(Decided(found, Outcome.of(test.decision), *test))
        else:
            decided.append(Decided(found, Outcome.of(claim.acceptance.holds(found.low, found.high))))
    return decided
