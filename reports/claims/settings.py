"""Where a quantity was measured, and the values that methods have of it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from rankbench.bench.records import RunRecord
from rankbench.reports.claims.measurements import Measurement
from rankbench.reports.frames import Group, Overhead, Suite

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
    """Of a score: what the best constant answer reaches; None where it is not known."""
    is_pretrained: bool = True
    """Whether the model's weights were learned before."""


def settings(measurement: Measurement, suite: Suite) -> list[Setting]:
    """Every setting of a suite in which a method has the quantity."""
    if measurement.kind == "overhead":
        found = [_of_overhead(measurement, record) for record in suite.overhead]
    else:
        found = [_of_group(measurement, group) for group in suite.groups]
    return [setting for setting in found if setting.candidates]


def _of_group(measurement: Measurement, group: Group) -> Setting:
    candidates = []
    for name, label, values in _measured(measurement, group):
        one = group.contenders[label]
        if values:
            tuned = one.is_tuned, one.says_who_tuned
            candidates.append(Candidate(name, values, one.given, one.parameters, *tuned))
    constant = group.constant_score if measurement.kind == "score" else None
    return Setting(
        group.task,
        group.name,
        group.protocol["model"],
        candidates,
        group.differing,
        None if constant is None else 100 * constant,
        all(one.is_pretrained for one in group.contenders.values()),
    )


def _measured(measurement: Measurement, group: Group) -> Iterator[tuple[str, str, Values]]:
    """Each method's name, the label whose settings are its own, and its values.

    A sweep over ranks has the settings that its ranks share; those of its lowest stand for them.
    """
    if measurement.kind == "slope":
        for name, labels in group.ranks.items():
            ranks = {rank: group.runs[label] for rank, label in labels.items()}
            yield name, labels[min(labels)], _slopes(ranks, measurement.read)
    elif measurement.kind == "score" and group.scale.percent:
        for label, found in group.scores.items():
            yield label, label, {seed: 100 * score for seed, score in found.items()}
    elif measurement.kind != "score":
        for label, runs in group.runs.items():
            read = {seed: measurement.read(record) for seed, record in runs.items()}
            yield label, label, {seed: value for seed, value in read.items() if value is not None}


def _slopes(
    ranks: Mapping[int, Mapping[int, RunRecord]], read: Callable[[RunRecord], float | None]
) -> dict[int, float]:
    """Least-squares slope per doubling of the rank, for the seeds that have every rank."""
    slopes = {}
    for seed in sorted(set.intersection(*(set(runs) for runs in ranks.values()))):
        values = [value for runs in ranks.values() if (value := read(runs[seed])) is not None]
        if len(values) == len(ranks):
            slopes[seed] = float(np.polyfit(np.log2(list(ranks)), values, 1)[0])
    return slopes


def _of_overhead(measurement: Measurement, record: Overhead) -> Setting:
    candidates = [
        Candidate(label, dict(enumerate(processes)), record.given(label), record.parameters.get(label))
        for label, processes in measurement.read(record).items()
    ]
    return Setting(record.name, record.name, record.model, candidates)
