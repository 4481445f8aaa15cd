"""Which methods of a setting a claim speaks of, and what it asks for that they do not have."""

from __future__ import annotations

import math

from rankbench.reports.claims.measurements import Setting
from rankbench.reports.claims.published import same_model
from rankbench.reports.claims.schema import Claim, Method, Only
from rankbench.reports.render.markdown import number

CLOSE = 0.05
"""How far a ratio of parameters may be from the claim's: heads and small factors shift it."""
TUNED = " whose settings a sweep chose"


def methods(claim: Claim, setting: Setting) -> list[str]:
    """Labels of the method that a claim is about."""
    only = claim.only or Only()
    found = _matching(claim.method, setting, tuned=only.tuned == "both")
    if only.largest_rank:
        largest = max((_rank(setting, label) for label in found), default=0.0)
        found = [label for label in found if _rank(setting, label) == largest]
    return found


def others(claim: Claim, setting: Setting) -> list[str]:
    """Labels of the method that it is compared with."""
    only = claim.only or Only()
    return _matching(claim.against, setting, tuned=only.tuned in ("both", "against")) if claim.against else []


def pairs(claim: Claim, setting: Setting) -> list[tuple[str, str | None]]:
    """Every method with every other one, or alone."""
    found = methods(claim, setting)
    if claim.against is None:
        return [(method, None) for method in found]
    return [(method, other) for method in found for other in others(claim, setting) if other != method]


def wanted(claim: Claim) -> tuple[str, str]:
    """The two methods in words; the second is empty where there is none."""
    tuned = claim.only.tuned if claim.only else None
    other = f"{claim.against}{TUNED if tuned in ('both', 'against') else ''}" if claim.against else ""
    return f"{claim.method}{TUNED if tuned == 'both' else ''}", other


def mismatch(claim: Claim, setting: Setting, method: str, against: str | None) -> str:
    """What the claim asks for and the runs do not have."""
    only = claim.only or Only()
    reasons = []
    if only.model and not same_model(only.model, setting.model):
        reasons.append(f"model: {setting.model}, not {only.model}")
    if only.pretrained and not setting.pretrained:
        reasons.append(f"model: {setting.model}, not a pretrained one")
    if against:
        own, other = setting.facts.get(method, {}), setting.facts.get(against, {})
        for name, wanted in claim.ratio.model_dump(exclude_none=True).items():
            if name not in own or name not in other:
                reasons.append(f"{name}: not known")
            elif not math.isclose(other[name] / own[name], wanted, rel_tol=CLOSE):
                reasons.append(
                    f"{name}: {number(own[name])} and {number(other[name])}, not 1 to {number(wanted)}"
                )
        untuned = [label for label in (method, against) if label not in setting.tuned]
        if only.tuned == "alike" and setting.tuning_unknown & {method, against}:
            reasons.append("records of before suites said whose settings a sweep chose")
        elif only.tuned == "alike" and len(untuned) == 1:
            reasons.append(f"only {untuned[0]} has settings that no sweep chose")
        if only.largest_rank and _rank(setting, method) <= _rank(setting, against):
            reasons.append(f"rank: {number(_rank(setting, method))}, the largest, is not above the other's")
    return "; ".join(reasons)


def _matching(method: Method, setting: Setting, *, tuned: bool) -> list[str]:
    return [
        label
        for label in setting.values
        if method.fits(setting.given.get(label, {})) and not (tuned and label not in setting.tuned)
    ]


def _rank(setting: Setting, label: str) -> float:
    return setting.facts.get(label, {}).get("rank", 0.0)
