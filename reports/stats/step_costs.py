"""What a measurement of overhead says: step times and peak memory beside another contender's."""

from __future__ import annotations

from rankbench.bench.records.schema import OverheadRecord
from rankbench.reports.stats.processes import Estimate, estimate, median_ratios

FLOOR = "floor"
"""The step without any adapter."""
TRAINER = "trainer"
"""The loop that ours is measured beside; a record that has it measures loops."""


def ratios(record: OverheadRecord, to: str) -> dict[str, Estimate]:
    """Contender -> step time over that of `to` in the same round; empty if `to` was not measured."""
    if to not in record.seconds:
        return {}
    reference = record.seconds[to]
    return {name: estimate(median_ratios(own, reference)) for name, own in record.seconds.items()}


def peak_ratios(record: OverheadRecord, to: str) -> dict[str, Estimate]:
    """Contender -> peak memory over that of `to`; empty if that was not measured."""
    reference = record.peak_resident.get(to)
    if reference is None:
        return {}
    return {
        name: estimate(one / other for one, other in zip(peaks, reference, strict=True))
        for name, peaks in record.peak_resident.items()
    }
