"""Steps of adapters: a table, and a figure where there is a baseline to compare with."""

from __future__ import annotations

from collections.abc import Mapping

from rankbench.bench.records import OverheadRecord
from rankbench.bench.records.costs import FLOOR
from rankbench.reports.render.blocks import Block, Picture, Table
from rankbench.reports.render.figure import Axis, Figure, Level, Panel, Row
from rankbench.reports.render.looks import Looks
from rankbench.reports.render.markdown import MISSING
from rankbench.reports.sections.overhead.cells import interval, milliseconds, sizes, tokens
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.processes import Estimate, estimate, mean_ratios, peak_ratios, ratios


def steps(record: OverheadRecord, styles: Looks) -> list[Block]:
    """What a record of single steps says."""
    measured = ratios(record, record.baseline)
    return [_table(record), *([_picture(record, measured, styles)] if measured else [])]


def _table(record: OverheadRecord) -> Table:
    header = [
        *("contender", "ms per step", "tokens/s", f"time ÷ {record.baseline}", f"mean ÷ {record.baseline}"),
        *(f"time ÷ {FLOOR}", "peak MiB", f"peak ÷ {record.baseline}", "trainable parameters"),
    ]
    to_baseline, to_floor = ratios(record, record.baseline), ratios(record, FLOOR)
    reference = record.seconds.get(record.baseline)
    rows = [
        [
            name,
            interval(milliseconds(record, name), 1),
            tokens(record, name),
            interval(to_baseline.get(name), 3),
            interval(estimate(mean_ratios(seconds, reference)), 3) if reference else MISSING,
            interval(to_floor.get(name), 3),
            *sizes(record, name, record.baseline),
        ]
        for name, seconds in record.seconds.items()
    ]
    return Table(header, rows)


def _picture(record: OverheadRecord, measured: Mapping[str, Estimate], styles: Looks) -> Picture:
    """A row a contender, the cheapest on top, and a panel for each quantity that was measured."""
    names = sorted(measured, key=lambda name: (measured[name].middle, name))
    panels = {
        f"step time ÷ {record.baseline}'s": measured,
        f"step time ÷ {FLOOR}'s": ratios(record, FLOOR),
        f"peak memory ÷ {record.baseline}'s": peak_ratios(record, record.baseline),
    }
    drawn = [
        Panel(
            [
                Level(1.0, vertical=True),
                *(Row(styles[name], name, *found[name]) for name in names if name in found),
            ],
            Axis(label),
            Axis(categories=names),
        )
        for label, found in panels.items()
        if found
    ]
    size = (3.5 + 3 * len(drawn), 1.3 + 0.32 * len(names))
    title = f"Step time and peak memory relative to {record.baseline}, {record.name}"
    caption = f"Over the processes: geometric mean, bar: {LEVEL:.0%} interval."
    figure = Figure(drawn, size, record.name, beside=True, shared="y")
    return Picture(f"overhead--{record.name}", title, caption, figure)
