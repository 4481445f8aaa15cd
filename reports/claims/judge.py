"""What our records say of the papers' claims: a verdict for each claim and setting.

Each claim is tested wherever a suite has its methods (`reports.claims.decide`). Data that would be rare
were the claim untrue: REPRODUCED; rare were it true: NOT REPRODUCED; else UNDERPOWERED. Runs that the claim
does not speak of are PROTOCOL DIFFERS, with the fields that differ; no runs are NOT RUN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rankbench.reports.claims.contenders import methods, mismatch, others, pairs, wanted
from rankbench.reports.claims.decide import decide, effects, measured
from rankbench.reports.claims.measurements import MEASUREMENTS, Setting, settings
from rankbench.reports.claims.schema import Claim, Method, Outcome
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
    measurement = MEASUREMENTS[claim.measurement]
    found = list(settings(measurement, suite))
    rows = [row for setting in found for row in _in_setting(claim, setting)]
    decided = iter(decide(claim, [values for _, values in rows if values is not None]))
    verdicts = [
        verdict if values is None else replace(verdict, **next(decided)._asdict()) for verdict, values in rows
    ]
    return verdicts or [_nothing(claim, found)]


def _in_setting(claim: Claim, setting: Setting) -> Iterator[tuple[Verdict, Array | None]]:
    """A verdict for each pair of methods, with the values to test; none where it stands as it is."""
    found = pairs(claim, setting)
    mismatches = {pair: mismatch(claim, setting, *pair) for pair in found}
    fitting = [pair for pair in found if not mismatches[pair]]
    for pair in fitting or found:
        method, against = pair
        beside = f"{method} against {against}" if against else method
        verdict = Verdict(claim, Outcome.UNDERPOWERED, setting.name, setting.model, beside)
        own, other = setting.values[method], setting.values[against] if against else None
        if MEASUREMENTS[claim.measurement].curve and other is not None:
            own, other = steps_to_loss(own, other)
        try:
            values = effects(own, other, ratio=claim.is_ratio)
        except StatsError as error:
            yield replace(verdict, reason=str(error)), None
            continue
        if not len(values):
            reason = f"no common {'process' if claim.test is Test.PAIRED_PROCESSES else 'seed'}"
            yield replace(verdict, outcome=Outcome.NOT_RUN, reason=reason), None
        elif mismatches[pair]:
            differs = Outcome.PROTOCOL_DIFFERS
            shown = measured(claim, values)
            yield replace(verdict, outcome=differs, found=shown, reason=mismatches[pair]), None
        elif claim.test is Test.PAIRED_PROCESSES and len(values) == 1:
            yield replace(verdict, found=measured(claim, values), reason=ONE_PROCESS), None
        elif not _learned(claim, setting, method, against):
            reason = f"no method is shown to beat a constant answer ({number(setting.constant)})"
            yield replace(verdict, found=measured(claim, values), reason=reason), None
        else:
            yield replace(verdict, reason=_own_settings(setting, method, against)), values


def _learned(claim: Claim, setting: Setting, method: str, against: str | None) -> bool:
    """Whether one of the methods beats the best constant answer, where that is known: of two that
    learned nothing, neither is better, and nothing follows from it."""
    if setting.constant is None:
        return True
    found = (effects(setting.values[label], None, ratio=False) for label in (method, against) if label)
    return any(interval(values, claim.test).low > setting.constant for values in found)


def _own_settings(setting: Setting, method: str, against: str | None) -> str:
    """Hyperparameters that two methods both have and that differ: each has its own by its own sweep."""
    if against is None:
        return ""
    own, other = setting.given.get(method, {}), setting.given.get(against, {})
    differing = [
        f"{key} {_shown(own[key])} and {_shown(other[key])}"
        for key in own
        if key != "name" and key in other and own[key] != other[key]
    ]
    return f"own settings: {', '.join(differing)}" if differing else ""


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nothing(claim: Claim, found: Sequence[Setting]) -> Verdict:
    """No setting has both methods: run apart under different protocols, or not at all."""
    if claim.against:
        for setting in found:
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
    sides = zip((claim.method, claim.against), wanted(claim), (methods, others), strict=True)
    absent = [
        f"{name}{_otherwise(method, found)}"
        for method, name, labels in sides
        if method and not any(labels(claim, each) for each in found)
    ]
    what = f"no {claim.measurement} of {' or '.join(absent)}" if absent else "never measured together"
    return Verdict(claim, Outcome.NOT_RUN, reason=what)


def _otherwise(method: Method, found: Sequence[Setting]) -> str:
    """What to add where the method was run, but with other settings than the claim's."""
    given = [each for setting in found for each in setting.given.values()]
    run = any(each["name"] in method.adapters for each in given)
    return " with the claim's settings" if run and not any(map(method.fits, given)) else ""
