"""Cells that the tables of steps and of loops share."""

from __future__ import annotations

from rankbench.bench.records import OverheadRecord
from rankbench.reports.render.markdown import MISSING
from rankbench.reports.stats.processes import Estimate, estimate, medians, peak_ratios


def milliseconds(record: OverheadRecord, name: str) -> Estimate:
    """A contender's usual step."""
    return estimate(1000 * seconds for seconds in medians(record.seconds[name]))


def tokens(record: OverheadRecord, name: str) -> str:
    """Tokens that go in, by the usual second."""
    if not {"batch", "length"} <= record.config.keys():
        return MISSING
    size = record.config["batch"] * record.config["length"]
    return f"{1000 * size / milliseconds(record, name).middle:,.0f}"


def sizes(record: OverheadRecord, name: str, to: str) -> list[str]:
    """Peak memory, the same beside another contender's, and the number of parameters."""
    peaks, parameters = record.peak_resident.get(name), record.parameters.get(name)
    return [
        MISSING if peaks is None else interval(estimate(peaks), 0),
        interval(peak_ratios(record, to).get(name), 3),
        MISSING if parameters is None else f"{parameters:,}",
    ]


def interval(value: Estimate | None, decimals: int) -> str:
    """A value, and its interval where it has one."""
    if value is None:
        return MISSING
    middle, *ends = value
    bounds = f" [{', '.join(f'{end:,.{decimals}f}' for end in ends)}]" if None not in ends else ""
    return f"{middle:,.{decimals}f}{bounds}"
