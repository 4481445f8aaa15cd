"""One claim on the values that were measured: an interval, p-values and an outcome in each setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.stats.decision import (
    ALPHA,
    CONFIDENCE,
    Interval,
    Test,
    Tested,
    holm,
    holm_of_both,
    interval,
)
from rankbench.reports.stats.evidence import Array, Evidence, StatsError, Unjudged
from rankbench.reports.stats.items import logarithm
from rankbench.reports.stats.sequential import Plan, Staged, judged


class Decided(NamedTuple):
    """A claim in one setting; no p-values where the spread is unknown, or none is due."""

    found: Interval
    """Of the claimed quantity, in its unit: at the stage that decided it, else of all seeds."""
    outcome: Outcome
    p_if_untrue: float | None = None
    p_if_true: float | None = None
    """Those of `reports.stats.decision.Tested`, Holm-adjusted over the settings."""
    p_if_apart: float | None = None
    """Of data that speak so much for a difference within the claim's margin, were it none; adjusted too."""
    stage: int | None = None
    """Seeds after which the outcome stood; None where it is open, or the number of seeds was fixed."""
    evidence: Evidence | None = None
    """That of the last stage, or of all seeds; of a ratio, of its logarithm."""
    later: Interval | None = None
    """As `found`, by the stages after the one that decided it, too; None where there is none. It changes no
    outcome."""


def effects(own: Mapping[int, ArrayLike], other: Mapping[int, ArrayLike] | None, *, ratio: bool) -> Array:
    """A method's values, or their differences or log ratios to the other's, on the seeds (processes) of both.

    Returns (seeds,) or (seeds, items), the seeds rising, whose means over the items are a seed's difference
    of means, or the log ratio of its two means (`stats.items.logarithm`). Raises StatsError for the ratio of
    what is not above 0, and for the logarithm of 0.
    """
    if other is None:
        return _finite([own[key] for key in sorted(own)])
    common = sorted(own.keys() & other.keys())
    values, against = (_finite([side[key] for key in common]) for side in (own, other))
    if not ratio:
        return values - against
    return _logarithms(values) - _logarithms(against)


def _finite(values: Sequence[ArrayLike]) -> Array:
    found = np.array(values, np.float64)
    if np.isneginf(found).any():
        raise StatsError("an error of 0 has no logarithm")
    return found


def _logarithms(values: Array) -> Array:
    """Of values (seeds,), or of the means of (seeds, items)."""
    means = values if values.ndim == 1 else values.mean(axis=1)
    if means.min(initial=1.0) <= 0:
        raise StatsError("a value that is not above 0 has no ratio")
    return np.log(values) if values.ndim == 1 else np.array([logarithm(row) for row in values])


def measured(claim: Claim, values: Array, plan: Plan = ()) -> Interval:
    """Of the claimed quantity, in its unit; `values` as `effects` gives them."""
    found = seen(values, claim.test, plan)
    return found.ratio() if claim.is_ratio else found


def seen(values: Array, test: Test, plan: Plan = ()) -> Interval:
    """Of values (seeds,) or (seeds, items). With a plan it is the repeated interval, of the last stage that
    is complete: it holds at every look. Unbounded before the first stage."""
    if not plan or test is Test.EXACT:
        return interval(values, test)
    complete = max((seeds for seeds in plan if seeds <= len(values)), default=0)
    if not complete:
        return Interval(float(values.mean()), -math.inf, math.inf, len(values))
    fixed, found = interval(values[:complete], test), judged(values, plan)
    if isinstance(found, Unjudged):
        return fixed
    low, high = found.interval(CONFIDENCE)
    return fixed._replace(low=float(low), high=float(high))


class _Row(NamedTuple):
    outcome: Outcome
    p: Tested
    p_if_apart: float | None


def decide(claim: Claim, settings: Sequence[Array], plans: Sequence[Plan] | None = None) -> list[Decided]:
    """The claim in each of its settings, on values (seeds,) or (seeds, items) each, judged after the stages
    of its plan where there is one. What has no spread is compared as it is, and does not count in Holm."""
    plans = plans or [()] * len(settings)
    given = [*zip(settings, plans, strict=True)]
    tried = [None if claim.test is Test.EXACT else judged(values, plan) for values, plan in given]
    found = {place: one for place, one in enumerate(tried) if isinstance(one, Evidence)}
    rows, first = _rows(claim, found), _first(claim, found)
    decided = []
    for place, (values, plan) in enumerate(given):
        now = measured(claim, values, plan)
        if row := rows.get(place):
            stage, outcome = first.get(place, (None, row.outcome))
            then = measured(claim, values[:stage], plan)
            p, later = (*row.p, row.p_if_apart), now if now.n > then.n else None
            decided.append(Decided(then, outcome, *p, stage, found[place], later))
        else:
            decided.append(Decided(now, _compared(claim, now)))
    return decided


def _rows(claim: Claim, found: Mapping[int, Evidence]) -> dict[int, _Row]:
    """Adjusted over all of them, each kind of p on its own."""
    accepted, alike = claim.acceptance, claim.alike
    if claim.is_ratio:
        accepted, alike = accepted.logarithms(), alike and alike.logarithms()
    tested = holm_of_both({place: accepted.test(one) for place, one in found.items()})
    apart = holm({place: alike.test(one).p_if_untrue for place, one in found.items()}) if alike else {}
    return {place: _Row(_outcome(p, apart.get(place)), p, apart.get(place)) for place, p in tested.items()}


def _outcome(p: Tested, p_if_apart: float | None) -> Outcome:
    outcome = Outcome.of(p.decision)
    if outcome is Outcome.UNDERPOWERED and p_if_apart is not None and p_if_apart < ALPHA:
        return Outcome.EQUIVALENT
    return outcome


def _compared(claim: Claim, found: Interval) -> Outcome:
    outcome = Outcome.of(claim.acceptance.holds(found.low, found.high))
    within = claim.alike and claim.alike.holds(found.low, found.high) == "holds"
    return Outcome.EQUIVALENT if outcome is Outcome.UNDERPOWERED and within else outcome


def _first(claim: Claim, found: Mapping[int, Evidence]) -> dict[int, tuple[int, Outcome]]:
    """Row -> seeds after which it was decided, and how, all rows as they were then: that stands, though later
    stages may show the contrary too."""
    looked = {place: one for place, one in found.items() if isinstance(one, Staged)}
    first: dict[int, tuple[int, Outcome]] = {}
    for seeds in sorted({seeds for one in looked.values() for seeds in one.plan[: len(one.looks)]}):
        then = _rows(claim, {**found, **{place: one.until(seeds) for place, one in looked.items()}})
        for place in looked:
            if then[place].outcome is not Outcome.UNDERPOWERED:
                first.setdefault(place, (seeds, then[place].outcome))
    return first
