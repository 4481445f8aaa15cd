"""Is a claim about a paired difference shown, refuted, or neither: superior, not inferior, equivalent.

Each is a pair of one-sided tests at `alpha`: the claim holds where its opposite is rejected, fails where
the claim itself is, and is underpowered where the data reject neither. Positive differences are better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rankbench.reports.stats.evidence import Evidence, StatsError, Unjudged

Outcome = Literal["holds", "fails", "underpowered"]


@dataclass(frozen=True)
class Judgement:
    """The outcome, its two p-values and the numbers behind them."""

    outcome: Outcome
    p_opposite: float
    """Of the claim's opposite: below alpha, the claim holds."""
    p_claim: float
    """Of the claim itself: below alpha, it fails."""
    estimate: float
    interval: tuple[float, float]
    """Two-sided at level 1 - 2 alpha: what the one-sided tests look at."""
    seeds: int
    items: int


def superior(
    found: Evidence | Unjudged, tolerance: float = 0.0, *, alpha: float = 0.05
) -> Judgement | Unjudged:
    """Claim: the difference is above 0. It fails where the difference is shown to be below `tolerance`,
    the least gain worth the name."""
    _check(tolerance)
    if isinstance(found, Unjudged):
        return found
    return _judgement(found, float(found.p_at_most(0.0)), float(found.p_at_least(tolerance)), alpha)


def not_inferior(
    found: Evidence | Unjudged, tolerance: float, *, alpha: float = 0.05
) -> Judgement | Unjudged:
    """Claim: the difference is above -`tolerance`."""
    _check(tolerance)
    if isinstance(found, Unjudged):
        return found
    return _judgement(found, float(found.p_at_most(-tolerance)), float(found.p_at_least(-tolerance)), alpha)


def equivalent(found: Evidence | Unjudged, tolerance: float, *, alpha: float = 0.05) -> Judgement | Unjudged:
    """Claim: the difference lies within ±`tolerance` (two one-sided tests, Schuirmann 1987)."""
    _check(tolerance)
    if isinstance(found, Unjudged):
        return found
    opposite = max(float(found.p_at_most(-tolerance)), float(found.p_at_least(tolerance)))
    claim = min(float(found.p_at_least(-tolerance)), float(found.p_at_most(tolerance)))
    return _judgement(found, opposite, claim, alpha)


def _check(tolerance: float) -> None:
    if not 0 <= tolerance < float("inf"):
        raise StatsError(f"a tolerance of {tolerance}: give a finite number, 0 or more")


def _judgement(found: Evidence, opposite: float, claim: float, alpha: float) -> Judgement:
    outcome: Outcome = "holds" if opposite < alpha else "fails" if claim < alpha else "underpowered"
    low, high = found.interval(1 - 2 * alpha)
    interval = (float(low), float(high))
    return Judgement(outcome, opposite, claim, float(found.estimate), interval, found.seeds, found.items)
