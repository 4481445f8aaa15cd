"""A claim tested on measured values: an interval, and two p-values, one against the claim and one for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.stats.evidence import Array, Evidence, StatsError, Unjudged, evidence
from rankbench.reports.stats.interval import CONFIDENCE, Interval, Test, interval
from rankbench.reports.stats.judgement import Judgement, equivalent, not_inferior, superior
from rankbench.reports.stats.methods import holm

ALPHA = round((1 - CONFIDENCE) / 2, 9)
"""Of each one-sided test."""


@dataclass(frozen=True)
class Trial:
    """One row of a claim's verdict; no p-values where the spread is unknown, or none is due."""

    found: Interval
    outcome: Outcome
    p_if_untrue: float | None = None
    """Of data that speak so much for the claim, were it untrue: below ALPHA it is REPRODUCED."""
    p_if_true: float | None = None
    """Of data that speak so much against it, were it true: below ALPHA it is NOT REPRODUCED."""


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


def trials(claim: Claim, rows: Sequence[Array]) -> list[Trial]:
    """The claim tested in each of its settings, on values (seeds,) or (seeds, items) each.

    Both kinds of p-value are Holm-adjusted over the rows, each kind on its own: with probability
    1 - ALPHA no row is wrongly REPRODUCED, and as surely none wrongly NOT REPRODUCED.
    """
    tested = {row: judged for row, values in enumerate(rows) if (judged := _test(claim, values))}
    untrue = holm({row: judged.p_opposite for row, judged in tested.items()})
    true = holm({row: judged.p_claim for row, judged in tested.items()})
    found = [measured(claim, values) for values in rows]
    return [
        Trial(one, _decide(untrue[row], true[row]), untrue[row], true[row])
        if row in tested
        else Trial(one, claim.acceptance.judge(one))
        for row, one in enumerate(found)
    ]


def _test(claim: Claim, values: Array) -> Judgement | None:
    """The claim's pair of one-sided tests, more being better and 0 the claim's centre; ratios by their
    logarithms."""
    found = None if claim.test is Test.EXACT else evidence(values)
    if not isinstance(found, Evidence):
        return None
    sign = 1 if claim.prefers_more else -1
    centre, tolerance = claim.centre, claim.tolerance
    if claim.is_ratio:
        centre, tolerance = math.log(centre), math.log1p(tolerance)
    turned = replace(found, estimate=sign * (found.estimate - centre))
    match claim.direction:
        case "equivalent":
            judged = equivalent(turned, tolerance, alpha=ALPHA)
        case "not inferior" | "at least" | "at most":
            judged = not_inferior(turned, tolerance, alpha=ALPHA)
        case "superior" | "above" | "below":
            # The gain that the claim speaks of begins beyond its tolerance.
            judged = superior(replace(turned, estimate=turned.estimate - tolerance), alpha=ALPHA)
    return None if isinstance(judged, Unjudged) else judged


def _decide(p_if_untrue: float, p_if_true: float) -> Outcome:
    if p_if_untrue < ALPHA:
        return Outcome.REPRODUCED
    return Outcome.NOT_REPRODUCED if p_if_true < ALPHA else Outcome.UNDERPOWERED
