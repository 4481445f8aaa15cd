"""What our records say of the papers' claims: a verdict for each claim and setting.

An interval of the claimed quantity is set against what the claim accepts. All of it inside:
REPRODUCED; all outside: NOT REPRODUCED; else UNDERPOWERED. Runs that the claim does not speak of are
PROTOCOL DIFFERS, with the fields that differ; no runs are NOT RUN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reports.claims import Claim, Outcome
from reports.interval import CONFIDENCE, Interval, interval
from reports.load import Suite, in_order
from reports.markdown import MISSING, Section, number, paragraphs, table
from reports.measurements import MEASUREMENTS, Measurement, Setting, settings
from reports.published import same_model

NO_MODEL = "none"
CLOSE = 0.05
"""How far a ratio of parameters may be from the claim's: heads and small factors shift it."""


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


def judge(suite: Suite, claims: Sequence[Claim]) -> list[Verdict]:
    """Each claim in every setting of the suite that has its methods; NOT RUN where none has."""
    return [verdict for claim in claims for verdict in _judge(suite, claim)]


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """One row a verdict, with the numbers that decide it."""
    header = [
        "claim",
        "verdict",
        "task",
        "model",
        "methods",
        "measured [interval] (n)",
        "claim holds if",
        "note",
    ]
    rows = [
        [
            verdict.claim.id,
            verdict.outcome.value,
            verdict.where or MISSING,
            verdict.model or MISSING,
            verdict.methods or MISSING,
            str(verdict.found) if verdict.found else MISSING,
            f"{verdict.claim.acceptance} {verdict.claim.unit}",
            verdict.reason or MISSING,
        ]
        for verdict in verdicts
    ]
    return table(header, rows, words=len(header))


def section(suite: Suite, claims: Sequence[Claim]) -> Section:
    """The claims in words, and the verdicts."""
    sentences = [[c.id, c.paper, c.sentence, f"{c.source} ({c.hand}-hand)", c.why] for c in claims]
    note = (
        f"Judged on the runs of this suite, on the task and model that each row names; intervals are "
        f"{CONFIDENCE:.0%} (either end a one-sided test at {(1 - CONFIDENCE) / 2:.0%}), each row's own, "
        "without correction over rows. All of the interval within what the claim accepts: REPRODUCED; all "
        "of it outside: NOT REPRODUCED; neither: UNDERPOWERED, too few seeds to say. Differences are taken "
        "seed by seed, the test items held fixed; losses, times and memory as ratios."
    )
    words = table(["claim", "arXiv", "in our words", "source", "why this tolerance"], sentences, words=5)
    return Section(paragraphs("## Do the papers hold?", note, verdict_table(judge(suite, claims)), words))


def _judge(suite: Suite, claim: Claim) -> Iterator[Verdict]:
    measurement = MEASUREMENTS[claim.measurement]
    found = list(settings(measurement, suite))
    verdicts = [verdict for setting in found for verdict in _in_setting(claim, measurement, setting)]
    yield from verdicts
    if not verdicts:
        yield _nothing(claim, found)


def _in_setting(claim: Claim, measurement: Measurement, setting: Setting) -> Iterator[Verdict]:
    pairs = _pairs(claim, setting)
    mismatches = {pair: _mismatch(claim, setting, *pair) for pair in pairs}
    fitting = [pair for pair in pairs if not mismatches[pair]]
    for pair in fitting or pairs:
        method, against = pair
        methods = f"{method} against {against}" if against else method
        effects = _effects(measurement, setting, method, against)
        if not effects:
            reason = f"no common {'round' if measurement.kind == 'time' else 'seed'}"
            yield Verdict(claim, Outcome.NOT_RUN, setting.name, setting.model, methods, reason=reason)
            continue
        measured = interval(effects, claim.test)
        outcome = Outcome.PROTOCOL_DIFFERS if mismatches[pair] else claim.acceptance.judge(measured)
        yield Verdict(claim, outcome, setting.name, setting.model, methods, measured, mismatches[pair])


def _pairs(claim: Claim, setting: Setting) -> list[tuple[str, str | None]]:
    methods = _matching(claim.method, setting)
    if claim.against is None:
        return [(method, None) for method in methods]
    others = _matching(claim.against, setting)
    return [(method, other) for method in methods for other in others if other != method]


def _matching(pattern: str, setting: Setting) -> list[str]:
    return in_order(label for label in setting.values if fnmatchcase(label, pattern))


def _mismatch(claim: Claim, setting: Setting, method: str, against: str | None) -> str:
    """What the claim asks for and the runs do not have."""
    reasons = []
    if claim.only and claim.only.model and not same_model(claim.only.model, setting.model):
        reasons.append(f"model: {setting.model}, not {claim.only.model}")
    if claim.only and claim.only.pretrained and setting.model == NO_MODEL:
        reasons.append("model: none, not a pretrained one")
    if against:
        own, other = setting.facts.get(method, {}), setting.facts.get(against, {})
        for name, wanted in claim.ratio.model_dump(exclude_none=True).items():
            if name not in own or name not in other:
                reasons.append(f"{name}: not known")
            elif not math.isclose(other[name] / own[name], wanted, rel_tol=CLOSE):
                reasons.append(
                    f"{name}: {number(own[name])} and {number(other[name])}, not 1 to {number(wanted)}"
                )
    return "; ".join(reasons)


def _effects(measurement: Measurement, setting: Setting, method: str, against: str | None) -> list[float]:
    own = setting.values[method]
    if against is None:
        return list(own.values())
    other = setting.values[against]
    common = sorted(own.keys() & other.keys())
    if measurement.contrast == "ratio":
        return [own[key] / other[key] for key in common]
    return [own[key] - other[key] for key in common]


def _nothing(claim: Claim, found: Sequence[Setting]) -> Verdict:
    """No setting has both methods: run apart under different protocols, or not at all."""
    if claim.against:
        for setting in found:
            others = [other for other in found if other.task == setting.task and other is not setting]
            apart = any(_matching(claim.against, other) for other in others)
            if apart and _matching(claim.method, setting):
                return Verdict(
                    claim,
                    Outcome.PROTOCOL_DIFFERS,
                    setting.task,
                    setting.model,
                    f"{claim.method} against {claim.against}",
                    reason=f"run under different protocols: {', '.join(setting.differing)}",
                )
    wanted = [claim.method] + ([claim.against] if claim.against else [])
    absent = [label for label in wanted if not any(_matching(label, setting) for setting in found)]
    what = f"no {claim.measurement} of {' or '.join(absent)}" if absent else "never measured together"
    return Verdict(claim, Outcome.NOT_RUN, reason=what)
