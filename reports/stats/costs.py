"""What an adapter costs, by each of the measures that the records have.

Time and memory are those of the suite's measurements of overhead alone. The runs' own are no measure of an
adapter: they were done one after the other, on a machine with other work, in one growing process.

The fresh process is the unit, not the round: the rounds of one share its memory layout, its threads and its
hour, and their spread says nothing of what another process would measure. So each process gives one number,
and the interval is Student's t over the processes, on logarithms, since costs are ratios.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from rankbench.reports.frames import Group, Overhead, Suite
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import Unjudged, evidence

PARAMETERS = "trainable parameters"

ONE_PROCESS = "one process: its rounds are no replicates, so nothing can be judged by them"

Rounds: TypeAlias = Sequence[Sequence[float]]
"""Process -> round -> seconds."""

Costs = dict[str, dict[str, float]]
"""Measure -> adapter -> cost."""


def costs(group: Group, suite: Suite) -> Costs:
    """Of the adapters of a group; measures that fewer than two adapters have are left out.

    A measurement of overhead counts for the adapters that it ran on the group's model in the same size.
    """
    found: Costs = {
        PARAMETERS: {
            label: max(run.parameters.trainable for run in runs.values())
            for label, runs in group.runs.items()
        }
    }
    for record in _measurements(group, suite):
        same = _same_size(group, record)
        found[f"step time ÷ {record.baseline} ({record.name})"] = _step_ratios(group, record)
        found[f"peak memory, MiB ({record.name})"] = {
            label: estimate(peaks).middle for label, peaks in record.peak_resident.items() if label in same
        }
    return {measure: values for measure, values in found.items() if len(values) > 1}


def step_ratios(group: Group, suite: Suite) -> dict[str, float]:
    """Adapter -> its step over the baseline's, by the first measurement of overhead (by name) that ran
    several of the group's adapters on its model in their size; empty where there is none."""
    measured = (_step_ratios(group, record) for record in _measurements(group, suite))
    return next((ratios for ratios in measured if len(ratios) > 1), {})


def memory_ratios(group: Group, suite: Suite) -> dict[str, float]:
    """The same of the peaks of memory."""
    measured = (_memory_ratios(group, record) for record in _measurements(group, suite))
    return next((ratios for ratios in measured if len(ratios) > 1), {})


def _memory_ratios(group: Group, record: Overhead) -> dict[str, float]:
    same = _beside_baseline(group, record)
    return {label: one.middle for label, one in peak_ratios(record, record.baseline).items() if label in same}


def _step_ratios(group: Group, record: Overhead) -> dict[str, float]:
    """Of means over the rounds: a median would hide what is not done in every step."""
    same = _beside_baseline(group, record)
    measured = ratios(record, record.baseline, mean_ratios)
    return {label: measured[label].middle for label in sorted(measured.keys() & same)}


def _measurements(group: Group, suite: Suite) -> Iterator[Overhead]:
    """On the group's model, computed with as the group's runs do."""
    computed = (
        group.protocol["model"],
        group.protocol.get("weights_held_in", "float32"),
        group.protocol.get("precision", "no"),
    )
    return (record for record in suite.overhead if (record.model, *record.computed_in) == computed)


def _same_size(group: Group, record: Overhead) -> set[str]:
    """The adapters of the group that were measured with as many parameters."""
    return {
        label
        for label, runs in group.runs.items()
        if {run.parameters.adapter for run in runs.values()} == {record.parameters.get(label)}
    }


def _beside_baseline(group: Group, record: Overhead) -> set[str]:
    """Of them those that may be divided by the baseline: none, where the group's own has another size."""
    same = _same_size(group, record)
    return same if record.baseline in same or record.baseline not in group.runs else set()


class Estimate(NamedTuple):
    """Geometric mean over the processes, and its interval; None of one process, or of equal ones."""

    middle: float
    low: float | None = None
    high: float | None = None


def estimate(values: Iterable[float]) -> Estimate:
    """Of one positive number a process."""
    logarithms = np.log(list(values))
    found = evidence(logarithms)
    middle = math.exp(logarithms.mean())
    if isinstance(found, Unjudged):
        return Estimate(middle)
    low, high = found.interval(LEVEL)
    return Estimate(middle, math.exp(low), math.exp(high))


def medians(processes: Rounds) -> list[float]:
    """A process's usual step."""
    return [statistics.median(rounds) for rounds in processes]


def means(processes: Rounds) -> list[float]:
    """A process's step with its share of what is not done in every step."""
    return [statistics.fmean(rounds) for rounds in processes]


def median_ratios(own: Rounds, other: Rounds) -> list[float]:
    """A process's usual ratio of two steps of one round."""
    return [float(np.median(np.divide(*pair))) for pair in zip(own, other, strict=True)]


def mean_ratios(own: Rounds, other: Rounds) -> list[float]:
    """A process's ratio of two mean steps."""
    return [one / against for one, against in zip(means(own), means(other), strict=True)]


def ratios(
    record: Overhead, to: str, of: Callable[[Rounds, Rounds], list[float]] = median_ratios
) -> dict[str, Estimate]:
    """Contender -> step time over that of `to`, process by process; empty if `to` was not measured."""
    reference = record.seconds.get(to)
    if reference is None:
        return {}
    return {name: estimate(of(own, reference)) for name, own in record.seconds.items()}


def peak_ratios(record: Overhead, to: str) -> dict[str, Estimate]:
    """Contender -> peak memory over that of `to`; empty if that was not measured."""
    reference = record.peak_resident.get(to)
    if reference is None:
        return {}
    return {
        name: estimate(one / other for one, other in zip(peaks, reference, strict=True))
        for name, peaks in record.peak_resident.items()
    }
