"""How many seeds each open claim would take, were the difference as large as the records have it so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy.special import nctdtr, ndtr, ndtri

from rankbench.reports.claims.judge import Verdict
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.stats.decision import ALPHA, POWER, Range
from rankbench.reports.stats.evidence import Evidence
from rankbench.reports.stats.sequential import Plan, level_of
from rankbench.reports.study import Study

FAR = 30.0
"""Standard errors from which on a bound is surely cleared, or is not; `nctdtr` may be no number there."""
BEYOND = 10
"""Times the most seeds that may be run: what needs more is not counted."""
FUTILE = 2
"""Times the most seeds that may be run: no seed is spent on what would take more."""
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
    at_most: int
    """Seeds that the suite may come to, or has where they are listed."""

    @property
    def first(self) -> int | None:
        """Seeds until the first of the two."""
        return min((seeds for seeds in (self.to_decide, self.to_equivalence) if seeds), default=None)


def power(study: Study) -> list[Needed]:
    """Of every open claim, in the order of the claims."""
    took: dict[tuple[str, str], list[float]] = {}
    for record in study.shown.records:
        took.setdefault((record.task, record.adapter), []).append(record.timings.total)
    found = []
    for verdict in study.verdicts:
        if verdict.outcome is Outcome.UNDERPOWERED and verdict.cells and verdict.found:
            has = verdict.found.n
            one = Needed(
                *(verdict.claim, verdict.where, verdict.methods, has),
                *seeds_needed(asked(verdict, study.verdicts)),
                hours=None,
                at_most=max((*verdict.plan, has)),
            )
            of_cells = [took[verdict.experiment, label] for label in verdict.cells]
            found.append(one if one.first is None else replace(one, hours=_hours(of_cells, one.first)))
    return found


def _hours(of_cells: Iterable[Sequence[float]], seeds: int) -> float:
    """Of the runs that are missing, by the seconds of those that there are: a baseline, whose pairs go on one
    longer than the other, has some already."""
    return sum(fmean(seconds) * max(0, seeds - len(seconds)) for seconds in of_cells) / 3600


class Asked(NamedTuple):
    """What an open claim's evidence is to show, of a ratio all in logarithms."""

    found: Evidence
    accepted: Range
    alike: Range | None
    """Within the margin, where it has one."""
    plan: Plan
    alpha: float
    """What Holm's rule leaves it to be decided by, the way that it points to now."""
    alpha_alike: float
    """And to be shown to be within the margin."""


def asked(verdict: Verdict, verdicts: Iterable[Verdict]) -> Asked | None:
    """Of an open claim; its rows are among `verdicts`. None where the spread is unknown."""
    if (found := verdict.evidence) is None:
        return None
    claim = verdict.claim
    accepted, alike = claim.acceptance, claim.alike
    if claim.is_ratio:
        accepted, alike = accepted.logarithms(), alike and alike.logarithms()
    rows = [one for one in verdicts if one.claim is claim and one.evidence is not None]
    holds = accepted.low < found.estimate < accepted.high
    decided = [one.p_if_untrue if holds else one.p_if_true for one in rows]
    return Asked(
        found, accepted, alike, verdict.plan, _left(decided), _left([one.p_if_apart for one in rows])
    )


def _left(p_values: Sequence[float | None]) -> float:
    """The level for the next of these adjusted p-values: each kind of them is corrected over all rows but
    those that it has rejected, however the others were decided."""
    return ALPHA / max(1, sum(p is not None and p >= ALPHA for p in p_values))


def seeds_needed(question: Asked | None) -> tuple[int | None, int | None]:
    """Until an open claim is decided, and until equivalence."""
    if question is None:
        return None, None
    found, accepted, alike, plan, alpha, alpha_alike = question
    decided = _first(lambda seeds, at: _decides(found, accepted, seeds, at), found, plan, alpha)
    if alike is None:
        return decided, None
    return decided, _first(lambda seeds, at: _shows(found, alike, seeds, at), found, plan, alpha_alike)


def is_futile(question: Asked | None) -> bool:
    """Whether no seed is worth spending on it: were the difference anything within a standard error of what
    it is now, `FUTILE` times the most that may be run would not decide it.

    At the level of a single row, so that it does not turn on what becomes of the others. Never after the
    first stage, whose spread says too little. Leaving off raises no error: a claim that is not decided is
    neither shown nor refuted.
    """
    if question is None or len(question.plan) < 2 or question.found.seeds < question.plan[1]:
        return False
    found, most = question.found, FUTILE * question.plan[-1]
    low, high = found.estimate - found.standard_error, found.estimate + found.standard_error
    # The power to show that a value lies beyond an end rises outwards, within two ends towards their middle.
    ranges = [each for each in (question.accepted, question.alike) if each is not None]
    middles = [
        np.clip((each.low + each.high) / 2, low, high) for each in ranges if np.isfinite(each.high - each.low)
    ]
    for estimate in (low, high, *middles):
        moved = question._replace(found=replace(found, estimate=estimate), alpha=ALPHA, alpha_alike=ALPHA)
        if any(seeds is not None and seeds <= most for seeds in seeds_needed(moved)):
            return False
    return True


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
    return _power(found, beyond, seeds, alpha, accepted.high - accepted.low)


def _shows(found: Evidence, wanted: Range, seeds: int, alpha: float) -> float:
    """That the value lies in the range: both one-sided tests must reject (at least, by Bonferroni)."""
    estimate = float(found.estimate)
    missed = sum(
        1 - _power(found, distance, seeds, alpha)
        for distance in (estimate - wanted.low, wanted.high - estimate)
        if np.isfinite(distance)
    )
    return max(0.0, 1 - missed)


def _power(found: Evidence, distance: float, seeds: int, alpha: float, width: float = np.inf) -> float:
    """Of a one-sided test at `alpha` whose bound is so far away: t is noncentral, with the degrees of freedom
    of Satterthwaite (1946) where items have a part in the variance. `width`: of a range of which the bound is
    one end; by what the other adds to its p the level is less (about)."""
    if distance <= 0:
        return 0.0
    by_seed, by_item = float(found.seed_variance) * found.seeds / seeds, float(found.item_variance)
    variance = by_seed + by_item
    then = Evidence(np.float64(0), np.float64(by_seed), np.float64(by_item), seeds, found.items)
    added = ndtr(ndtri(alpha) - width / np.sqrt(variance))
    alpha *= alpha / (alpha + added)
    degrees = variance**2 / (by_seed**2 / (seeds - 1) + by_item**2 / max(found.items - 1, 1))
    critical, away = float(then.critical(1 - 2 * alpha)), float(distance / np.sqrt(variance))
    if away > FAR:
        return float(away > critical)
    return float(1 - nctdtr(degrees, away, critical))
