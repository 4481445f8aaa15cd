"""What our records say of the papers' claims: a verdict for each claim and setting.

Each claim is tested wherever a suite has its methods (`reports.claims.decide`). Data that would be rare
were the claim untrue: REPRODUCED; rare were it true: NOT REPRODUCED; else UNDERPOWERED. Runs that the claim
does not speak of are PROTOCOL DIFFERS, with the fields that differ; no runs are NOT RUN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rankbench.reports.claims.contenders import absent, methods, mismatch, others, own_settings, pairs
from rankbench.reports.claims.decide import decide, effects, measured
from rankbench.reports.claims.measurements import MEASUREMENTS
from rankbench.reports.claims.schema import Claim, Outcome
from rankbench.reports.claims.settings import Candidate, Setting, settings
from rankbench.reports.frames import Suite
from rankbench.reports.render.markdown import number
from rankbench.reports.stats.evidence import Array, StatsError
from rankbench.reports.stats.interval import Interval, Test, interval
from rankbench.reports.stats.processes import ONE_PROCESS
from rankbench.reports.stats.steps_to_loss import steps_to_loss


@dataclass(frozen=True)
class Verdict:
    """A claim judged in one setting; without one, where there was nothing to judge."""

    claim: Claim
    outcome: Outcome
    where: str = ""
    model: str = ""
    methods: str = ""
    found: Interval | None = None
    reason: str = ""
    """What differs, or what is absent."""
    p_if_untrue: float | None = None
    p_if_true: float | None = None
    """Those of `reports.claims.decide.Decided`, Holm-adjusted over the claim's rows."""


def judge(suite: Suite, claims: Sequence[Claim]) -> list[Verdict]:
    """Each claim in every setting of the suite that has its methods; NOT RUN where none has."""
    return [verdict for claim in claims for verdict in _judge(suite, claim)]


def ran_and_absent(verdicts: Sequence[Verdict]) -> tuple[list[Verdict], list[Verdict]]:
    """Those of some setting, and those of claims that no setting has the methods for."""
    return [one for one in verdicts if one.where], [one for one in verdicts if not one.where]


def _judge(suite: Suite, claim: Claim) -> list[Verdict]:
    found = settings(MEASUREMENTS[claim.measurement], suite)
    rows = [row for setting in found for row in _in_setting(claim, setting)]
    decided = iter(decide(claim, [values for _, values in rows if values is not None]))
    verdicts = [
        verdict if values is None else replace(verdict, **next(decided)._asdict()) for verdict, values in rows
    ]
    return verdicts or [_nothing(claim, found)]


def _in_setting(claim: Claim, setting: Setting) -> Iterator[tuple[Verdict, Array | None]]:
    """A verdict for each pair of methods, with the values to test; none where it stands as it is."""
    mismatches = {pair: mismatch(claim, setting, *pair) for pair in pairs(claim, setting)}
    fitting = {pair: "" for pair, reason in mismatches.items() if not reason}
    for pair, reason in (fitting or mismatches).items():
        yield _of_pair(claim, setting, *pair, reason)


def _of_pair(
    claim: Claim, setting: Setting, own: Candidate, other: Candidate | None, mismatched: str
) -> tuple[Verdict, Array | None]:
    methods = f"{own.label} against {other.label}" if other else own.label
    verdict = Verdict(claim, Outcome.UNDERPOWERED, setting.name, setting.model, methods)
    try:
        values = _effects(claim, own, other)
    except StatsError as error:
        return replace(verdict, reason=str(error)), None
    if not len(values):
        reason = f"no common {'process' if claim.test is Test.PAIRED_PROCESSES else 'seed'}"
        return replace(verdict, outcome=Outcome.NOT_RUN, reason=reason), None
    shown = replace(verdict, found=measured(claim, values))
    if mismatched:
        return replace(shown, outcome=Outcome.PROTOCOL_DIFFERS, reason=mismatched), None
    if claim.test is Test.PAIRED_PROCESSES and len(values) == 1:
        return replace(shown, reason=ONE_PROCESS), None
    if setting.constant is not None and not _learned(claim, setting.constant, own, other):
        reason = f"no method is shown to beat a constant answer ({number(setting.constant)})"
        return replace(shown, reason=reason), None
    return replace(verdict, reason=own_settings(own, other) if other else ""), values


def _effects(claim: Claim, own: Candidate, other: Candidate | None) -> Array:
    if other is None:
        return effects(own.values, None, ratio=False)
    if MEASUREMENTS[claim.measurement].kind == "curve":
        return effects(*steps_to_loss(own.values, other.values), ratio=claim.is_ratio)
    return effects(own.values, other.values, ratio=claim.is_ratio)


def _learned(claim: Claim, constant: float, own: Candidate, other: Candidate | None) -> bool:
    """Whether one of the methods beats the best constant answer: of two that learned nothing, neither is
    better, and nothing follows from it."""
    found = (effects(each.values, None, ratio=False) for each in (own, other) if each)
    return any(interval(values, claim.test).low > constant for values in found)


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
