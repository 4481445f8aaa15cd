"""How many seeds each open claim would take, were the difference as large as the records have it so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.special import nctdtr

from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.stats.decision import ALPHA, POWER, Range
from rankbench.reports.stats.evidence import Evidence
from rankbench.reports.stats.sequential import Plan, level_of
from rankbench.reports.study import Study

BEYOND = 10
"""Times the most seeds that may be run: what needs more is not counted."""
MOST = 40
"""Seeds, where their number was fixed and nothing says how many may be run."""


@dataclass(frozen=True)
class Needed:
    """An open claim in one setting, and the seeds with which it would be decided with a probability of
    `stats.decision.POWER`. None: more than `BEYOND` times the most that may be run, or an unknown spread."""

    claim: Claim
    where: str
    methods: str
    seeds: int
    """That it has."""
    to_decide: int | None
    """Until it is shown to hold, or not to."""
    to_equivalence: int | None
    """Until the difference is shown to lie within the claim's margin; None too where it lies beyond."""
    hours: float | None
    """Of the runs that are missing for the first of the two, by what those of the pair took so far."""


def power(study: Study) -> list[Needed]:
    """Of every open claim, in the order of the claims."""
    took: dict[tuple[str, str], list[float]] = {}
    for record in study.shown.records:
        took.setdefault((record.task, record.adapter), []).append(record.timings.total)
    found = []
    for verdict in study.verdicts:
        if verdict.outcome is Outcome.UNDERPOWERED and verdict.cells and verdict.found:
            decided, alike = seeds_needed(verdict, study.verdicts)
            first = min((seeds for seeds in (decided, alike) if seeds), default=None)
            of_cells = [took[verdict.experiment, label] for label in verdict.cells]
            hours = None if first is None else _hours(of_cells, first)
            found.append(
                Needed(verdict.claim, verdict.where, verdict.methods, verdict.found.n, decided, alike, hours)
            )
    return found


def _hours(of_cells: Iterable[Sequence[float]], seeds: int) -> float:
    """Of the runs that are missing, by the seconds of those that there are: a baseline, whose pairs go on one
    longer than the other, has some already."""
    return sum(fmean(seconds) * max(0, seeds - len(seconds)) for seconds in of_cells) / 3600


def seeds_needed(verdict: Verdict, verdicts: Iterable[Verdict]) -> tuple[int | None, int | None]:
    """Until an open claim is decided, and until equivalence; at the level that Holm's rule leaves to those of
    its rows, among `verdicts`, that are open."""
    found = verdict.evidence
    if found is None:
        return None, None
    rows = sum(
        one.claim is verdict.claim and one.outcome is Outcome.UNDERPOWERED and one.evidence is not None
        for one in verdicts
    )
    claim, alpha = verdict.claim, ALPHA / max(1, rows)
    accepted, alike = claim.acceptance, claim.alike
    if claim.is_ratio:
        accepted, alike = accepted.logarithms(), alike and alike.logarithms()
    decided = _first(lambda seeds, at: _decides(found, accepted, seeds, at), found, verdict.plan, alpha)
    if alike is None:
        return decided, None
    return decided, _first(lambda seeds, at: _shows(found, alike, seeds, at), found, verdict.plan, alpha)


def _first(power_at: Callable[[int, float], float], found: Evidence, plan: Plan, alpha: float) -> int | None:
    """The first number of seeds with enough power: one of the stages that are left; beyond them, the last of
    a plan that would have gone as far."""
    for stage, seeds in enumerate(plan):
        if seeds > found.seeds and power_at(seeds, level_of(alpha, plan, stage)) >= POWER:
            return seeds
    most = BEYOND * (plan[-1] if plan else MOST)

    def enough(seeds: int) -> bool:
        if not plan:
            return power_at(seeds, alpha) >= POWER
        further = (*(stage for stage in plan if 3 * stage <= 2 * seeds), seeds)
        return power_at(seeds, level_of(alpha, further, len(further) - 1)) >= POWER

    low, high = max(found.seeds, *plan[-1:], 1), most
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _decides(found: Evidence, accepted: Range, seeds: int, alpha: float) -> float:
    """The power to show that the value lies in the range, or, where the estimate is beyond an end, that it
    does not."""
    estimate = float(found.estimate)
    if accepted.low < estimate < accepted.high:
        return _shows(found, accepted, seeds, alpha)
    beyond = max(accepted.low - estimate, estimate - accepted.high)
    return _power(found, beyond, seeds, alpha)


def _shows(found: Evidence, wanted: Range, seeds: int, alpha: float) -> float:
    """That the value lies in the range: both one-sided tests must reject (at least, by Bonferroni)."""
    estimate = float(found.estimate)
    missed = sum(
        1 - _power(found, distance, seeds, alpha)
        for distance in (estimate - wanted.low, wanted.high - estimate)
        if np.isfinite(distance)
    )
    return max(0.0, 1 - missed)


def _power(found: Evidence, distance: float, seeds: int, alpha: float) -> float:
    """Of a one-sided test at `alpha` whose bound is so far away: t is noncentral, with the degrees of freedom
    of Satterthwaite (1946) where items have a part in the variance."""
    if distance <= 0:
        return 0.0
    by_seed, by_item = float(found.seed_variance) * found.seeds / seeds, float(found.item_variance)
    variance = by_seed + by_item
    then = Evidence(np.float64(0), np.float64(by_seed), np.float64(by_item), seeds, found.items)
    degrees = variance**2 / (by_seed**2 / (seeds - 1) + by_item**2 / max(found.items - 1, 1))
    critical = float(then.critical(1 - 2 * alpha))
    return float(1 - nctdtr(degrees, distance / np.sqrt(variance), critical))
