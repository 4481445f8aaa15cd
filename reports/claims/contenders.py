"""Where a quantity was measured, the methods that have it there, and which of them a claim speaks of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from rankbench.bench.records import RunRecord
from rankbench.reports.claims.measurements import Measurement
from rankbench.reports.claims.reproductions import same_model
from rankbench.reports.claims.schema import Claim, Method
from rankbench.reports.frames import Group, Overhead, Suite
from rankbench.reports.render.numbers import number
from rankbench.reports.stats.sequential import Plan

CLOSE = {"parameters": 0.05, "rank": 1e-9}
"""How far a ratio may be from the claim's, relative: heads and small factors shift that of parameters."""

Values = Mapping[int, ArrayLike]
"""Seed, or process -> value, or values per test item."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method in a setting."""

    label: str
    values: Values
    given: Mapping[str, object]
    """The adapter's registered name and its hyperparameters, the learning rate included."""
    parameters: float | None
    """Of the adapter, where known."""
    is_tuned: bool = False
    """Whether a sweep chose its settings, so far as the record says."""
    says_who_tuned: bool = True
    """Whether the record says it."""
    cells: tuple[str, ...] = ()
    """Labels of the runs that the values are of; none of a measurement of overhead."""

    @property
    def rank(self) -> float | None:
        """None where it has none."""
        rank = self.given.get("rank")
        return rank if isinstance(rank, (int, float)) else None


@dataclass(frozen=True)
class Setting:
    """A task under one protocol, or one measurement of overhead, in which methods have a quantity."""

    task: str
    name: str
    """The task, with the protocol's letter where it has several."""
    model: str
    candidates: list[Candidate]
    """In the report's order."""
    differing: list[str] = field(default_factory=list)
    """Protocol fields that tell the task's settings apart."""
    constant: float | None = None
    """Of a score, or the items' loss: what the best constant answer reaches; None where it is not known."""
    is_pretrained: bool = True
    """Whether the model's weights were learned before."""
    plan: Plan = ()
    """Numbers of seeds after which its claims are judged; empty where their number is fixed."""


def settings(measurement: Measurement, suite: Suite) -> list[Setting]:
    """Every setting of a suite in which a method has the quantity."""
    if measurement.kind == "overhead":
        found = [_of_overhead(measurement, record) for record in suite.overhead]
    else:
        found = [_of_group(measurement, group) for group in suite.groups]
    return [setting for setting in found if setting.candidates]


def _of_group(measurement: Measurement, group: Group) -> Setting:
    candidates = [
        Candidate(
            name,
            values,
            one.given,
            one.parameters,
            label in group.tuned,
            one.says_who_tuned,
            _cells(measurement, group, label),
        )
        for name, label, values in _measured(measurement, group)
        if values and (one := group.contenders[label])
    ]
    constant = None
    if measurement.kind == "score" and group.constant_score is not None:
        constant = 100 * group.constant_score
    elif measurement.kind == "loss":
        constant = group.constant_loss
    return Setting(
        group.task,
        group.name,
        group.protocol["model"],
        candidates,
        group.differing,
        constant,
        all(one.is_pretrained for one in group.contenders.values()),
        group.plan,
    )


def _cells(measurement: Measurement, group: Group, label: str) -> tuple[str, ...]:
    """All ranks of a sweep, of which a slope is taken."""
    swept = (labels.values() for labels in group.ranks.values() if label in labels.values())
    return tuple(next(swept)) if measurement.kind == "slope" else (label,)


def _measured(measurement: Measurement, group: Group) -> Iterator[tuple[str, str, Values]]:
    """Each method's name, the label whose settings are its own, and its values.

    A sweep over ranks has the settings that its ranks share; those of its lowest stand for them.
    """
    if measurement.kind == "slope":
        for name, labels in group.ranks.items():
            ranks = {rank: group.runs[label] for rank, label in labels.items()}
            yield name, labels[min(labels)], _slopes(ranks, measurement)
    elif measurement.kind == "score" and measurement.read(group.record) is not None:
        for label, found in group.scores.items():
            yield label, label, {seed: 100 * score for seed, score in found.items()}
    elif measurement.kind == "loss":
        for label, losses in group.losses.items():
            yield label, label, losses
    elif measurement.kind != "score":
        for label, runs in group.runs.items():
            read = {seed: measurement.read(record) for seed, record in runs.items()}
            yield label, label, {seed: value for seed, value in read.items() if value is not None}


def _slopes(ranks: Mapping[int, Mapping[int, RunRecord]], measurement: Measurement) -> dict[int, float]:
    """Least-squares slope per doubling of the rank, for the seeds that have every rank."""
    slopes = {}
    for seed in sorted(set.intersection(*(set(runs) for runs in ranks.values()))):
        values = [value for runs in ranks.values() if (value := measurement.read(runs[seed])) is not None]
        if len(values) == len(ranks):
            slopes[seed] = float(np.polyfit(np.log2(list(ranks)), values, 1)[0])
    return slopes


def _of_overhead(measurement: Measurement, record: Overhead) -> Setting:
    candidates = [
        Candidate(label, dict(enumerate(processes)), record.given(label), record.parameters.get(label))
        for label, processes in measurement.read(record).items()
    ]
    return Setting(record.name, record.name, record.model, candidates)


def methods(claim: Claim, setting: Setting) -> list[Candidate]:
    """Of the method that a claim is about."""
    found = _matching(claim.method, setting, tuned=claim.only.tuned == "both")
    if claim.only.largest_rank:
        largest = max((one.rank or 0.0 for one in found), default=0.0)
        found = [one for one in found if (one.rank or 0.0) == largest]
    return found


def others(claim: Claim, setting: Setting) -> list[Candidate]:
    """Of the method that it is compared with."""
    tuned = claim.only.tuned in ("both", "against")
    return _matching(claim.against, setting, tuned=tuned) if claim.against else []


def pairs(claim: Claim, setting: Setting) -> list[tuple[Candidate, Candidate | None]]:
    """Every method with every other one, or alone."""
    found, against = methods(claim, setting), others(claim, setting)
    if claim.against is None:
        return [(method, None) for method in found]
    return [(method, other) for method in found for other in against if other is not method]


def mismatch(claim: Claim, setting: Setting, own: Candidate, other: Candidate | None) -> str:
    """What the claim asks for and the runs do not have."""
    only, reasons = claim.only, []
    if only.model and not same_model(only.model, setting.model):
        reasons.append(f"model: {setting.model}, not {only.model}")
    if only.pretrained and not setting.is_pretrained:
        reasons.append(f"model: {setting.model}, not a pretrained one")
    if other:
        for name, wanted in claim.ratio.model_dump(exclude_none=True).items():
            ours, theirs = getattr(own, name), getattr(other, name)
            if ours is None or theirs is None:
                reasons.append(f"{name}: not known")
            elif not math.isclose(theirs / ours, wanted, rel_tol=CLOSE[name]):
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
    tuned = claim.only.tuned
    sides = [(claim.method, methods, tuned == "both")]
    sides += [(claim.against, others, tuned in ("both", "against"))] if claim.against else []
    given = [one.given for setting in found for one in setting.candidates]
    names = []
    for method, candidates, chosen in sides:
        if not any(candidates(claim, setting) for setting in found):
            run = any(each["name"] in method.adapters for each in given)
            otherwise = run and not any(map(method.fits, given))
            told = " whose settings a sweep chose" * chosen + " with the claim's settings" * otherwise
            names.append(f"{method}{told}")
    return f"no {claim.measurement} of {' or '.join(names)}" if names else "never measured together"


def _matching(method: Method, setting: Setting, *, tuned: bool) -> list[Candidate]:
    return [one for one in setting.candidates if method.fits(one.given) and (one.is_tuned or not tuned)]
