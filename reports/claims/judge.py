"""What our records say of the papers' claims: a verdict for each claim and setting.

Each claim is tested wherever a suite has its methods: in each setting an interval, and a pair of
one-sided tests. Data that would be rare were the claim untrue: REPRODUCED; rare were it true: NOT REPRODUCED;
rare were the difference beyond the claim's margin: EQUIVALENT; else UNDERPOWERED. Runs that the claim does
not speak of are PROTOCOL DIFFERS, with the fields that differ; no runs are NOT RUN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rankbench.reports.claims.contenders import (
    Candidate,
    Setting,
    absent,
    methods,
    mismatch,
    others,
    own_settings,
    pairs,
    settings,
)
from rankbench.reports.claims.decide import decide, effects, measured
from rankbench.reports.claims.measurements import MEASUREMENTS
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.frames import Suite
from rankbench.reports.render.numbers import number
from rankbench.reports.stats.costs import ONE_PROCESS
from rankbench.reports.stats.decision import ALPHA, Interval, Test
from rankbench.reports.stats.evidence import Array, Evidence, StatsError, counted
from rankbench.reports.stats.sequential import Plan, judged
from rankbench.reports.stats.summary import steps_to_loss

MOST_PAIRS = 50
"""Of entries that a claim is judged by in one setting: Holm's correction would leave more no power."""


@dataclass(frozen=True)
class Verdict:
    """A claim judged in one setting; without one, where there was nothing to judge."""

    claim: Claim
    outcome: Outcome
    where: str = ""
    model: str = ""
    methods: str = ""
    found: Interval | None = None
    """Of the claimed quantity: when it was decided, else of all seeds."""
    reason: str = ""
    """What differs, or what is absent."""
    p_if_untrue: float | None = None
    p_if_true: float | None = None
    p_if_apart: float | None = None
    stage: int | None = None
    evidence: Evidence | None = None
    later: Interval | None = None
    """As of `Decided`."""
    by_means: float | None = None
    """Of what is compared by logarithms, the quantity by the plain means over all seeds of both: a few that
    are far off weigh more in them."""
    plan: Plan = ()
    """Seeds after which it is judged; empty where their number was fixed."""
    cells: tuple[str, ...] = ()
    """Labels of the runs that it is judged by."""
    experiment: str = ""
    """Which of the suite's they belong to."""

    @property
    def is_contradicted(self) -> bool:
        """Whether it was shown, or refuted, and the plain means lie on the other side of the bound."""
        if self.by_means is None or self.found is None:
            return False
        sides = {self.claim.acceptance.holds(one, one) for one in (self.found.estimate, self.by_means)}
        return self.outcome in (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED) and len(sides) > 1


def judge(suite: Suite, claims: Sequence[Claim]) -> list[Verdict]:
    """Each claim in every setting of the suite that has its methods; NOT RUN where none has."""
    told: dict[int, list[Verdict]] = {}
    for name in dict.fromkeys(claim.measurement for claim in claims):
        found = settings(MEASUREMENTS[name], suite)
        told |= {at: _judge(claim, found) for at, claim in enumerate(claims) if claim.measurement == name}
    return [verdict for at in range(len(claims)) for verdict in told[at]]


def ran_and_absent(verdicts: Sequence[Verdict]) -> tuple[list[Verdict], list[Verdict]]:
    """Those of some setting, and those of claims that no setting has the methods for."""
    return [one for one in verdicts if one.where], [one for one in verdicts if not one.where]


def _judge(claim: Claim, found: Sequence[Setting]) -> list[Verdict]:
    rows = [row for setting in found for row in _in_setting(claim, setting)]
    tested = [(values, verdict.plan) for verdict, values in rows if values is not None]
    decided = iter(decide(claim, [values for values, _ in tested], [plan for _, plan in tested]))
    verdicts = [
        verdict if values is None else replace(verdict, **next(decided)._asdict()) for verdict, values in rows
    ]
    return verdicts or [_nothing(claim, found)]


def _in_setting(claim: Claim, setting: Setting) -> Iterator[tuple[Verdict, Array | None]]:
    """A verdict for each pair of methods, with the values to test; none where it stands as it is."""
    if (many := _too_many(claim, setting)) is not None:
        yield many, None
        return
    mismatches = {pair: mismatch(claim, setting, *pair) for pair in pairs(claim, setting)}
    fitting = {pair: "" for pair, reason in mismatches.items() if not reason}
    for pair, reason in (fitting or mismatches).items():
        yield _of_pair(claim, setting, *pair, reason)


def _too_many(claim: Claim, setting: Setting) -> Verdict | None:
    """Where a claim speaks of one method beside another, and dozens of entries of both were run."""
    if not claim.against:
        return None
    own, other = len(methods(claim, setting)), len(others(claim, setting))
    if own * other <= MOST_PAIRS:
        return None
    named = f"{claim.method} against {claim.against}"
    reason = f"{own} entries of the one and {other} of the other: it is not said which are meant"
    return Verdict(claim, Outcome.PROTOCOL_DIFFERS, setting.name, setting.model, named, reason=reason)


def _of_pair(
    claim: Claim, setting: Setting, own: Candidate, other: Candidate | None, mismatched: str
) -> tuple[Verdict, Array | None]:
    methods = f"{own.label} against {other.label}" if other else own.label
    verdict = Verdict(
        claim,
        Outcome.UNDERPOWERED,
        setting.name,
        setting.model,
        methods,
        plan=setting.plan,
        cells=own.cells + (other.cells if other else ()),
        experiment=setting.task,
    )
    try:
        values = _effects(claim, own, other)
    except StatsError as error:
        return replace(verdict, reason=str(error)), None
    if not len(values):
        reason = f"no common {'process' if claim.test is Test.PAIRED_PROCESSES else 'seed'}"
        return replace(verdict, outcome=Outcome.NOT_RUN, reason=reason), None
    if mismatched:
        verdict = replace(verdict, outcome=Outcome.PROTOCOL_DIFFERS, reason=mismatched)
    elif claim.test is Test.PAIRED_PROCESSES and len(values) == 1:
        verdict = replace(verdict, reason=ONE_PROCESS)
    elif setting.plan and len(values) < setting.plan[0] and claim.test is not Test.EXACT:
        verdict = replace(verdict, reason=f"{counted(len(values), 'seed')}: judged after {setting.plan[0]}")
    elif setting.constant is not None and not _learned(claim, setting, setting.constant, own, other):
        told = f"no method is shown to beat a constant answer ({number(setting.constant)})"
        verdict = replace(verdict, reason=told)
    elif other:
        reason, by_means = own_settings(own, other), _by_means(claim, own, other)
        return replace(verdict, reason=reason, by_means=by_means), values
    else:
        return verdict, values
    return replace(verdict, found=measured(claim, values, setting.plan)), None


def _effects(claim: Claim, own: Candidate, other: Candidate | None) -> Array:
    if other is None:
        return effects(own.values, None, ratio=False)
    if MEASUREMENTS[claim.measurement].kind == "curve":
        return effects(*steps_to_loss(own.values, other.values), ratio=claim.is_ratio)
    return effects(own.values, other.values, ratio=claim.is_ratio)


def _by_means(claim: Claim, own: Candidate, other: Candidate) -> float | None:
    """In the claim's unit; None of what is no ratio and no error, and of steps, which a pair has."""
    is_error = claim.measurement == "error"
    if not (claim.is_ratio or is_error) or MEASUREMENTS[claim.measurement].kind == "curve":
        return None
    common = own.values.keys() & other.values.keys()
    values = ([np.asarray(side.values[seed], np.float64) for seed in common] for side in (own, other))
    means, others = ([(2.0**one if is_error else one).mean() for one in each] for each in values)
    ratio = float(np.mean(means) / np.mean(others))
    return math.log2(ratio) if is_error else ratio


def _learned(
    claim: Claim, setting: Setting, constant: float, own: Candidate, other: Candidate | None
) -> bool:
    """Whether one of the methods is shown to beat the best constant answer, at any stage: of two that learned
    nothing, neither is better, and nothing follows from it."""
    more = MEASUREMENTS[claim.measurement].larger_is_better
    values = [effects(each.values, None, ratio=False) for each in (own, other) if each]
    return any(_beats(one if more else -one, constant if more else -constant, setting.plan) for one in values)


def _beats(values: Array, constant: float, plan: Plan) -> bool:
    """Of values (seeds,) or (seeds, items), of which more is better; without a spread it is what they say."""
    found = judged(values, plan)
    if isinstance(found, Evidence):
        return bool(found.p_at_most(constant) < ALPHA)
    return len(values) > 1 and bool(values.mean() > constant)


def _nothing(claim: Claim, found: Sequence[Setting]) -> Verdict:
    """No setting has both methods: run apart under different protocols, or not at all."""
    for setting in found if claim.against else ():
        apart = [other for other in found if other.task == setting.task and other is not setting]
        if methods(claim, setting) and any(others(claim, other) for other in apart):
            return Verdict(
                claim,
                Outcome.PROTOCOL_DIFFERS,
                setting.task,
                setting.model,
                f"{claim.method} against {claim.against}",
                reason=f"run under different protocols: {', '.join(setting.differing)}",
            )
    return Verdict(claim, Outcome.NOT_RUN, reason=absent(claim, found))
