"""What training costs: a step beside LoRA's and the frozen model's, a loop beside the Trainer's."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bench.record import OverheadRecord, RecordError
from reports.growth import growth
from reports.load import BASELINE, Suite
from reports.markdown import MISSING, Section, figure, paragraphs, table
from reports.plot import Styles, render
from reports.stats import Quartiles, quartiles

FLOOR = "floor"
TRAINER = "trainer"
OURS = "rankbench"
ALL_LOGITS = "rankbench, all logits"

HOW_TO_READ = (
    "Contenders take one synchronised step each in every round, in one process; a ratio compares two steps "
    f"of the same round, and its median over the rounds stands here with [quartiles]. `{FLOOR}` is the "
    "step without any adapter. The mean over all rounds also counts what is not done in each of them. "
    "Peak memory is the resident set of a process of its own."
)
LOOP = (
    "Whole loops, tokenised data in, steps out: ours with LoRA, and Hugging Face's Trainer with PEFT LoRA, "
    "on the same examples, order and batches, without evaluation, logging or saving. A contender's tokens "
    f"per second are compared with those of `{TRAINER}` in the same round: above 1 is faster."
)


def overhead(suite: Suite, styles: Styles) -> Section:
    """Tables for each measurement, and a figure where there is a LoRA to compare with."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for record in suite.overhead:
        parts += [f"### {record.name}: {record.model}", conditions(record)]
        if record.growth:
            parts.append(growth(record))
            continue
        if TRAINER in record.seconds:
            parts += [LOOP, _loop_table(record)]
            continue
        parts.append(_table(record))
        if to_baseline := ratios(record, BASELINE):
            name = f"overhead--{record.name}.svg"
            figures[name] = draw_ratios(record, to_baseline, styles)
            title = f"Step time and peak memory relative to {BASELINE}, {record.name}"
            caption = "Time: median over the rounds, bar: quartiles. Memory: one process each."
            parts.append(figure(name, title, caption))
    return Section(paragraphs("## Overhead", HOW_TO_READ, *parts) if parts else "", figures)


def conditions(record: OverheadRecord) -> str:
    """How often it was measured, and on which machine."""
    first = record.growth[0].seconds if record.growth else record.seconds
    rounds = len(next(iter(first.values()), []))
    known = record.provenance
    machine = [
        str(known[key]) + unit
        for key, unit in (("processor", ""), ("cores", " cores"), ("threads", " threads"))
        if key in known
    ]
    if known.get("device", "cpu") != "cpu":
        machine.insert(0, known["device"])
    if "torch" in known.get("packages", {}):
        machine.append(f"torch {known['packages']['torch']}")
    return f"{rounds} rounds{' on ' if machine else ''}{', '.join(machine)}."


def ratios(record: OverheadRecord, to: str) -> dict[str, Quartiles]:
    """Contender -> step time over that of `to` in the same round; empty if `to` was not measured.

    Raises RecordError if the contenders were not measured in the same rounds.
    """
    _refuse_unequal(record)
    if to not in record.seconds:
        return {}
    return {
        name: quartiles(np.divide(seconds, record.seconds[to])) for name, seconds in record.seconds.items()
    }


def draw_ratios(record: OverheadRecord, measured: dict[str, Quartiles], styles: Styles) -> bytes:
    """One row a contender, the cheapest on top: its step time and, where it was measured, its memory."""
    names = sorted(measured, key=lambda name: (measured[name].median, name))
    memory = peak_ratios(record, BASELINE)
    colours = [styles[name]["color"] if name in styles else "#777777" for name in names]

    def draw(canvas: Figure) -> None:
        panels = canvas.subplots(1, 2 if memory else 1, sharey=True, squeeze=False)[0]
        for row, (name, colour) in enumerate(zip(names, colours, strict=True)):
            low, median, high = measured[name]
            spread = [[median - low], [high - median]]
            panels[0].errorbar(median, row, xerr=spread, fmt="o", capsize=4, color=colour)
            if name in memory:
                panels[1].plot(memory[name], row, "o", color=colour)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        for axes, what in zip(panels, ("step time", "peak memory"), strict=False):
            axes.axvline(1.0, color="#777777", linewidth=1)
            axes.set_xlabel(f"{what} ÷ {BASELINE}'s")
        canvas.suptitle(record.name)

    return render(draw, (9.5 if memory else 6.5, 1.3 + 0.32 * len(names)))


def peak_ratios(record: OverheadRecord, to: str) -> dict[str, float]:
    """Contender -> peak memory over that of `to`; empty if that was not measured."""
    reference = record.peak_resident.get(to)
    return {name: peak / reference for name, peak in record.peak_resident.items()} if reference else {}


def _table(record: OverheadRecord) -> str:
    header = [
        "contender",
        "ms per step",
        "tokens/s",
        f"time ÷ {BASELINE}",
        f"mean ÷ {BASELINE}",
        f"time ÷ {FLOOR}",
        "peak MiB",
        f"peak ÷ {BASELINE}",
        "trainable parameters",
    ]
    to_baseline, to_floor = ratios(record, BASELINE), ratios(record, FLOOR)
    reference = record.seconds.get(BASELINE)
    rows = []
    for name, seconds in record.seconds.items():
        rows.append(
            [
                name,
                _interval(quartiles(np.multiply(seconds, 1000)), 1),
                _tokens(record, name),
                _interval(to_baseline.get(name), 3),
                f"{np.mean(seconds) / np.mean(reference):.3f}" if reference else MISSING,
                _interval(to_floor.get(name), 3),
                *_sizes(record, name, BASELINE),
            ]
        )
    return table(header, rows)


def _loop_table(record: OverheadRecord) -> str:
    header = [
        "contender",
        "ms per step",
        "tokens/s",
        f"tokens/s ÷ {TRAINER}",
        "peak MiB",
        f"peak ÷ {TRAINER}",
        "trainable parameters",
    ]
    _refuse_unequal(record)
    trainer = record.seconds[TRAINER]
    rows = [
        [
            name,
            _interval(quartiles(np.multiply(seconds, 1000)), 1),
            _tokens(record, name),
            _interval(quartiles(np.divide(trainer, seconds)), 3),
            *_sizes(record, name, TRAINER),
        ]
        for name, seconds in record.seconds.items()
    ]
    if ALL_LOGITS not in record.seconds:
        return table(header, rows)
    faster = quartiles(np.divide(record.seconds[ALL_LOGITS], record.seconds[OURS]))
    note = (
        f"`{OURS}` computes logits for the answer's tokens alone, which takes "
        f"{_interval(faster, 3)} times as many steps in the same time as `{ALL_LOGITS}`."
    )
    return paragraphs(table(header, rows), note)


def _tokens(record: OverheadRecord, name: str) -> str:
    """Tokens that go in, by the median second."""
    if not {"batch", "length"} <= record.config.keys():
        return MISSING
    tokens = record.config["batch"] * record.config["length"]
    return f"{tokens / np.median(record.seconds[name]):,.0f}"


def _sizes(record: OverheadRecord, name: str, to: str) -> list[str]:
    """Peak memory, the same beside another contender's, and the number of parameters."""
    peak, reference = record.peak_resident.get(name), record.peak_resident.get(to)
    parameters = record.parameters.get(name)
    return [
        MISSING if peak is None else f"{peak:,.0f}",
        f"{peak / reference:.3f}" if peak and reference else MISSING,
        MISSING if parameters is None else f"{parameters:,}",
    ]


def _interval(value: Quartiles | None, decimals: int) -> str:
    if value is None:
        return MISSING
    low, median, high = (f"{part:.{decimals}f}" for part in value)
    return f"{median} [{low}, {high}]"


def _refuse_unequal(record: OverheadRecord) -> None:
    if len({len(seconds) for seconds in record.seconds.values()}) > 1:
        raise RecordError(
            f"overhead record {record.name!r} has unequal rounds; delete it and run the suite again"
        )
