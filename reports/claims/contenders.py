"""Which methods of a setting a claim speaks of, and what it asks for that they do not have."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rankbench.reports.claims.schema import Claim, Method, Only
from rankbench.reports.claims.settings import Candidate, Setting
from rankbench.reports.claims.values import same_model
from rankbench.reports.render.numbers import number

CLOSE = 0.05
"""How far a ratio of parameters may be from the claim's: heads and small factors shift it."""
TUNED = " whose settings a sweep chose"


def methods(claim: Claim, setting: Setting) -> list[Candidate]:
    """Of the method that a claim is about."""
    only = claim.only or Only()
    found = _matching(claim.method, setting, tuned=only.tuned == "both")
    if only.largest_rank:
        largest = max((one.rank or 0.0 for one in found), default=0.0)
        found = [one for one in found if (one.rank or 0.0) == largest]
    return found


def others(claim: Claim, setting: Setting) -> list[Candidate]:
    """Of the method that it is compared with."""
    only = claim.only or Only()
    return _matching(claim.against, setting, tuned=only.tuned in ("both", "against")) if claim.against else []


def pairs(claim: Claim, setting: Setting) -> list[tuple[Candidate, Candidate | None]]:
    """Every method with every other one, or alone."""
    found = methods(claim, setting)
    if claim.against is None:
        return [(method, None) for method in found]
    return [(method, other) for method in found for other in others(claim, setting) if other is not method]


def mismatch(claim: Claim, setting: Setting, own: Candidate, other: Candidate | None) -> str:
    """What the claim asks for and the runs do not have."""
    only = claim.only or Only()
    reasons = []
    if only.model and not same_model(only.model, setting.model):
        reasons.append(f"model: {setting.model}, not {only.model}")
    if only.pretrained and not setting.is_pretrained:
        reasons.append(f"model: {setting.model}, not a pretrained one")
    if other:
        for name, wanted in claim.ratio.model_dump(exclude_none=True).items():
            ours, theirs = getattr(own, name), getattr(other, name)
            if ours is None or theirs is None:
                reasons.append(f"{name}: not known")
            elif not math.isclose(theirs / ours, wanted, rel_tol=CLOSE):
                reasons.append(f"{name}: {number(ours)} and {number(theirs)}, not 1 to {number(wanted)}")
        untuned = [one.label for one in (own, other) if not one.is_tuned]
        if only.tuned == "alike" and not (own.says_who_tuned and other.says_who_tuned):
            reasons.append("records of before suites said whose settings a sweep chose")
        elif only.tuned == "alike" and len(untuned) == 1:
            reasons.append(f"only {untuned[0]} has settings that no sweep chose")
        if only.largest_rank and (own.rank or 0.0) <= (other.rank or 0.0):
            reasons.append(f"rank: {number(own.rank or 0.0)}, the largest, is not above the other's")
    return "; ".join(reasons)


def own_settings(own: Candidate, other: Candidate) -> str:
    """Hyperparameters that two methods both have and that differ: each has its own by its own sweep."""

    def shown(value: object) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)

    differing = [
        f"{key} {shown(value)} and {shown(other.given[key])}"
        for key, value in own.given.items()
        if key != "name" and key in other.given and value != other.given[key]
    ]
    return f"own settings: {', '.join(differing)}" if differing else ""


def absent(claim: Claim, found: Sequence[Setting]) -> str:
    """Which of a claim's methods no setting has."""
    tuned = claim.only.tuned if claim.only else None
    sides = [(claim.method, methods, tuned == "both")]
    sides += [(claim.against, others, tuned in ("both", "against"))] if claim.against else []
    names = [
        f"{method}{TUNED if chosen else ''}{_otherwise(method, found)}"
        for method, candidates, chosen in sides
        if not any(candidates(claim, setting) for setting in found)
    ]
    return f"no {claim.measurement} of {' or '.join(names)}" if names else "never measured together"


def _otherwise(method: Method, found: Sequence[Setting]) -> str:
    """What to add where the method was run, but with other settings than the claim's."""
    given = [one.given for setting in found for one in setting.candidates]
    run = any(each["name"] in method.adapters for each in given)
    return " with the claim's settings" if run and not any(map(method.fits, given)) else ""


def _matching(method: Method, setting: Setting, *, tuned: bool) -> list[Candidate]:
    return [one for one in setting.candidates if method.fits(one.given) and (one.is_tuned or not tuned)]
