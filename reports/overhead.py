"""What a step costs: time and memory beside LoRA and beside the frozen model alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from bench.record import OverheadRecord, RecordError
from reports.load import BASELINE, Suite
from reports.markdown import MISSING, Section, figure, paragraphs, table
from reports.plot import Styles, render

FLOOR = "floor"

HOW_TO_READ = (
    "Contenders take one synchronised step each in every round, in one process; a ratio compares two steps "
    f"of the same round, and its median over the rounds stands here with [quartiles]. `{FLOOR}` is the "
    "step without any adapter. Peak memory is the resident set of a process of its own."
)


class Quartiles(NamedTuple):
    """Of one quantity over the rounds."""

    low: float
    median: float
    high: float


def overhead(suite: Suite, styles: Styles) -> Section:
    """A table and a figure for each measurement."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for record in suite.overhead:
        name = f"overhead--{record.name}.svg"
        to_baseline = ratios(record, BASELINE)
        parts += [f"### {record.name}: {record.model}", _table(record)]
        if to_baseline:
            figures[name] = draw_ratios(record, to_baseline, styles)
            title = f"Step time relative to {BASELINE}, {record.name}"
            parts.append(figure(name, title, "Point: median over the rounds; bar: quartiles."))
    return Section(paragraphs("## Overhead", HOW_TO_READ, *parts) if parts else "", figures)


def ratios(record: OverheadRecord, to: str) -> dict[str, Quartiles]:
    """Contender -> step time over that of `to` in the same round; empty if `to` was not measured.

    Raises RecordError if the contenders were not measured in the same rounds.
    """
    if len({len(seconds) for seconds in record.seconds.values()}) > 1:
        raise RecordError(
            f"overhead record {record.name!r} has unequal rounds; delete it and run the suite again"
        )
    if to not in record.seconds:
        return {}
    return {
        name: _quartiles(np.divide(seconds, record.seconds[to])) for name, seconds in record.seconds.items()
    }


def draw_ratios(record: OverheadRecord, measured: dict[str, Quartiles], styles: Styles) -> bytes:
    """One row a contender, the cheapest on top."""
    names = sorted(measured, key=lambda name: (measured[name].median, name))

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        for row, name in enumerate(names):
            low, median, high = measured[name]
            colour = styles[name]["color"] if name in styles else "#777777"
            axes.errorbar(
                median, row, xerr=[[median - low], [high - median]], fmt="o", capsize=4, color=colour
            )
        axes.axvline(1.0, color="#777777", linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(f"step time ÷ step time of {BASELINE}, in the same round")
        axes.set_title(record.name)

    return render(draw, (7.5, 1.3 + 0.32 * len(names)))


def _table(record: OverheadRecord) -> str:
    header = [
        "contender",
        "ms per step",
        f"time ÷ {BASELINE}",
        f"time ÷ {FLOOR}",
        "peak MiB",
        f"peak ÷ {BASELINE}",
    ]
    header += ["trainable parameters"]
    to_baseline, to_floor = ratios(record, BASELINE), ratios(record, FLOOR)
    reference = record.peak_resident.get(BASELINE)
    rows = []
    for name, seconds in record.seconds.items():
        peak = record.peak_resident.get(name)
        parameters = record.parameters.get(name)
        rows.append(
            [
                name,
                _interval(_quartiles(np.multiply(seconds, 1000)), 1),
                _interval(to_baseline.get(name), 3),
                _interval(to_floor.get(name), 3),
                MISSING if peak is None else f"{peak:,.0f}",
                f"{peak / reference:.3f}" if peak and reference else MISSING,
                MISSING if parameters is None else f"{parameters:,}",
            ]
        )
    rounds = len(next(iter(record.seconds.values()), []))
    return paragraphs(f"{rounds} rounds.", table(header, rows))


def _quartiles(values: np.ndarray) -> Quartiles:
    return Quartiles(*(float(value) for value in np.quantile(values, [0.25, 0.5, 0.75])))


def _interval(value: Quartiles | None, decimals: int) -> str:
    if value is None:
        return MISSING
    low, median, high = (f"{part:.{decimals}f}" for part in value)
    return f"{median} [{low}, {high}]"
