"""What an adapter costs, by each of the measures that the records have.

Time and memory are those of the suite's measurements of overhead alone. The runs' own are no measure of an
adapter: they were done one after the other, on a machine with other work, in one growing process.
"""

from __future__ import annotations

from collections.abc import Iterator

from rankbench.bench.records import OverheadRecord
from rankbench.reports.frames import Group, Suite
from rankbench.reports.stats.processes import estimate, mean_ratios

PARAMETERS = "trainable parameters"

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
        found[f"step time ÷ {record.baseline} ({record.name})"] = _ratios(group, record)
        found[f"peak memory, MiB ({record.name})"] = {
            label: estimate(peaks).middle for label, peaks in record.peak_resident.items() if label in same
        }
    return {measure: values for measure, values in found.items() if len(values) > 1}


def step_ratios(group: Group, suite: Suite) -> dict[str, float]:
    """Adapter -> its step over the baseline's, by the first measurement of overhead (by name) that ran
    several of the group's adapters on its model in their size; empty where there is none."""
    measured = (_ratios(group, record) for record in _measurements(group, suite))
    return next((ratios for ratios in measured if len(ratios) > 1), {})


def _measurements(group: Group, suite: Suite) -> Iterator[OverheadRecord]:
    return (record for record in suite.overhead if record.model == group.protocol["model"])


def _same_size(group: Group, record: OverheadRecord) -> set[str]:
    """The adapters of the group that were measured with as many parameters."""
    return {
        label
        for label, runs in group.runs.items()
        if {run.parameters.adapter for run in runs.values()} == {record.parameters.get(label)}
    }


def _ratios(group: Group, record: OverheadRecord) -> dict[str, float]:
    """Of means over the rounds: a median would hide what is not done in every step."""
    if record.baseline not in record.seconds:
        return {}
    reference = record.seconds[record.baseline]
    measured = record.seconds.keys() & _same_size(group, record)
    return {
        label: estimate(mean_ratios(record.seconds[label], reference)).middle for label in sorted(measured)
    }
