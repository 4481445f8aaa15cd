"""What training costs: a step beside the baseline's and the frozen model's, a loop beside the Trainer's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from rankbench.bench.records.costs import ALL_LOGITS, FLOOR, OURS, STOCK, TRAINER
from rankbench.reports.frames import Overhead
from rankbench.reports.frames.machine import machine
from rankbench.reports.render.blocks import Block, Picture, Section, Table
from rankbench.reports.render.figure import Axis, Figure, Level, Panel, Row
from rankbench.reports.render.looks import Looks
from rankbench.reports.render.numbers import MISSING
from rankbench.reports.render.words import words
from rankbench.reports.sections.overhead.growth import growth
from rankbench.reports.stats.costs import (
    ONE_PROCESS,
    Estimate,
    estimate,
    mean_ratios,
    median_ratios,
    medians,
    peak_ratios,
    ratios,
)
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import counted
from rankbench.reports.study import Study


def section(study: Study) -> Section | None:
    """A part for each measurement."""
    parts = [
        Section(
            f"{record.name}: {record.model}",
            [conditions(record), *_ways(record), *_measured(record, study.styles)],
        )
        for record in study.shown.overhead
    ]
    return Section("Overhead", [words("overhead", level=LEVEL), *parts]) if parts else None


def _measured(record: Overhead, styles: Looks) -> list[Block]:
    if record.growth:
        return growth(record)
    return loops(record) if TRAINER in record.seconds else steps(record, styles)


def conditions(record: Overhead) -> str:
    """How often it was measured, and on which machine."""
    first = record.growth[0].seconds if record.growth else record.seconds
    rounds = max((len(rounds) for rounds in next(iter(first.values()), [])), default=0)
    where = [machine(record.provenance)] if machine(record.provenance) else []
    if "torch" in record.provenance.get("packages", {}):
        where.append(f"torch {record.provenance['packages']['torch']}")
    told = (
        f"{record.processes} processes × {rounds} rounds"
        if record.processes > 1
        else counted(rounds, "round")
    )
    alone = f" {ONE_PROCESS.capitalize()}." if record.processes == 1 else ""
    return f"{told}{' on ' if where else ''}{', '.join(where)}.{alone}"


def _ways(record: Overhead) -> Iterator[str]:
    """Where it was done or seen otherwise than the section says."""
    model = record.config.get("model")
    if isinstance(model, dict) and "weights" in model:
        yield words("overhead", "weights", held=model["weights"])
    if blocks := record.config.get("blocks"):
        yield words("overhead", "blocks", blocks=blocks, rounds=record.config["rounds"] // blocks)
    if record.provenance.get("device", "cpu") != "cpu":
        yield words("overhead", "card")
    if record.peak_reserved:
        yield words("overhead", "reserved")
    if record.joules:
        yield words("overhead", "energy")


def interval(value: Estimate | None, decimals: int) -> str:
    """A value, and its interval where it has one."""
    if value is None:
        return MISSING
    middle, *ends = value
    bounds = f" [{', '.join(f'{end:,.{decimals}f}' for end in ends)}]" if None not in ends else ""
    return f"{middle:,.{decimals}f}{bounds}"


def _table(record: Overhead, to: str, beside: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """What every contender takes; `beside`: heading -> contender -> its ratio to another one."""
    header = ["contender", "ms per step", "tokens/s", *beside]
    of_the_card = _of_the_card(record, to)
    header += ["peak MiB", f"peak ÷ {to}", *of_the_card, "trainable parameters"]
    peaks = peak_ratios(record, to)
    rows = []
    for name, rounds in record.seconds.items():
        step = estimate(1000 * seconds for seconds in medians(rounds))
        peak, parameters = record.peak_resident.get(name), record.parameters.get(name)
        rows.append(
            [
                name,
                interval(step, 1),
                MISSING if record.tokens is None else f"{1000 * record.tokens / step.middle:,.0f}",
                *(interval(found.get(name), 3) for found in beside.values()),
                MISSING if peak is None else interval(estimate(peak), 0),
                interval(peaks.get(name), 3),
                *(cells.get(name, MISSING) for cells in of_the_card.values()),
                MISSING if parameters is None else f"{parameters:,}",
            ]
        )
    return Table(header, rows)


def _of_the_card(record: Overhead, to: str) -> dict[str, dict[str, str]]:
    """Heading -> contender -> cell: what is told of a card alone, and not by the earliest records."""

    def cells(found: Mapping[str, Iterable[float]], decimals: int) -> dict[str, str]:
        return {name: interval(estimate(values), decimals) for name, values in found.items()}

    used = record.joules
    beside = {name: np.divide(values, used[to]) for name, values in used.items()} if to in used else {}
    columns = {
        "reserved MiB": cells(record.peak_reserved, 0),
        "J per step": cells(used, 1),
        f"J ÷ {to}": cells(beside, 3),
    }
    return {heading: column for heading, column in columns.items() if column}


def steps(record: Overhead, styles: Looks) -> list[Block]:
    """What a record of single steps says."""
    baseline = record.baseline
    measured = ratios(record, baseline)
    beside = {
        f"time ÷ {baseline}": measured,
        f"mean ÷ {baseline}": ratios(record, baseline, mean_ratios),
        f"time ÷ {FLOOR}": ratios(record, FLOOR),
    }
    table = _table(record, baseline, beside)
    return [table, _steps_picture(record, measured, styles)] if measured else [table]


def _steps_picture(record: Overhead, measured: Mapping[str, Estimate], styles: Looks) -> Picture:
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


def loops(record: Overhead) -> list[Block]:
    """What a record that the Trainer is in says."""
    beside = {f"tokens/s ÷ {TRAINER}": {name: _faster(record, name, TRAINER) for name in record.seconds}}
    return [words("overhead", "loops"), _table(record, TRAINER, beside), *_whose_part(record)]


def _whose_part(record: Overhead) -> Iterator[str]:
    def faster(one: str, than: str) -> str:
        return interval(_faster(record, one, than), 3)

    if STOCK in record.seconds:
        whole, loop, dropout = faster(OURS, TRAINER), faster(STOCK, TRAINER), faster(OURS, STOCK)
        yield words("overhead", "dropout", ours=OURS, whole=whole, loop=loop, dropout=dropout)
    elif not record.names_processes:
        yield words("overhead", "earlier")
    if ALL_LOGITS in record.seconds:
        spared = faster(OURS, ALL_LOGITS)
        yield words("overhead", "logits", ours=OURS, faster=spared, all_logits=ALL_LOGITS)


def _faster(record: Overhead, one: str, than: str) -> Estimate:
    return estimate(median_ratios(record.seconds[than], record.seconds[one]))
