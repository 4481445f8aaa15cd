"""What an adapter costs, by each of the measures that the records have."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from bench.record import RunRecord
from reports.load import BASELINE, Group, Suite
from reports.overhead import ratios

PARAMETERS = "trainable parameters"
STEP = f"step time ÷ {BASELINE}, in the runs"
PEAK = "peak memory in the runs, MiB"

Costs = dict[str, dict[str, float]]
"""Measure -> adapter -> cost."""


def costs(group: Group, suite: Suite) -> Costs:
    """Of the adapters of a group; measures that no adapter has are left out.

    A measurement of overhead counts for the adapters that it ran on the group's model in the same size.
    """
    found: Costs = {
        PARAMETERS: {
            label: max(run.parameters.trainable for run in runs.values())
            for label, runs in group.runs.items()
        },
        STEP: step_ratios(group),
        PEAK: {
            label: max(run.memory.peak_resident for run in runs.values())
            for label, runs in group.runs.items()
        },
    }
    for record in suite.overhead:
        if record.growth or record.model != group.protocol["model"]:
            continue
        same = {
            label
            for label, runs in group.runs.items()
            if {run.parameters.adapter for run in runs.values()} == {record.parameters.get(label)}
        }
        times = {label: found.median for label, found in ratios(record, BASELINE).items() if label in same}
        peaks = {label: peak for label, peak in record.peak_resident.items() if label in same}
        found[f"step time ÷ {BASELINE}, side by side ({record.name})"] = times
        found[f"peak memory alone, MiB ({record.name})"] = peaks
    return {measure: values for measure, values in found.items() if len(values) > 1}


def step_ratios(group: Group) -> dict[str, float]:
    """Adapter -> median step of its runs over the baseline's of the same seed, mean over the seeds."""
    baseline = group.runs.get(BASELINE, {})
    found = {label: _step_ratio(runs, baseline) for label, runs in group.runs.items()}
    return {label: ratio for label, ratio in found.items() if ratio is not None}


def _step_ratio(runs: Mapping[int, RunRecord], baseline: Mapping[int, RunRecord]) -> float | None:
    common = sorted(runs.keys() & baseline.keys())
    if not common:
        return None
    return statistics.fmean(
        runs[seed].timings.median_step / baseline[seed].timings.median_step for seed in common
    )
