"""What training costs: a step beside LoRA's and the frozen model's, a loop beside the Trainer's."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankbench.bench.records.schema import OverheadRecord
from rankbench.reports.frames import BASELINE, Suite
from rankbench.reports.render.markdown import MISSING, Section, figure, paragraphs, table
from rankbench.reports.render.plot import Styles, render
from rankbench.reports.sections.growth import growth
from rankbench.reports.stats.decision import LEVEL
from rankbench.reports.stats.evidence import counted
from rankbench.reports.stats.processes import (
    ONE_PROCESS,
    Estimate,
    estimate,
    mean_ratios,
    median_ratios,
    medians,
)

FLOOR = "floor"
TRAINER = "trainer"
OURS = "rankbench"
STOCK = "rankbench, PyTorch's dropout"
ALL_LOGITS = "rankbench, all logits"

HOW_TO_READ = (
    "Each measurement is repeated in fresh processes: in each, every contender takes one synchronised "
    "step in every round, in an order drawn anew. The process is the unit: it gives one ratio, the median "
    "over its rounds of two steps of the same round. Here stand the geometric mean over the processes "
    f"and [its {LEVEL:.0%} interval] by Student's t over them, on logarithms. `{FLOOR}` is the step "
    "without any adapter. The ratio of means also counts what is not done in each round. Peak memory is the "
    "resident set of processes that hold one contender alone."
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
            caption = f"Over the processes: geometric mean, bar: {LEVEL:.0%} interval."
            parts.append(figure(name, title, caption))
    return Section(paragraphs("## Overhead", HOW_TO_READ, *parts) if parts else "", figures)


def conditions(record: OverheadRecord) -> str:
    """How often it was measured, and on which machine."""
    first = record.growth[0].seconds if record.growth else record.seconds
    rounds = max((len(rounds) for rounds in next(iter(first.values()), [])), default=0)
    known = record.provenance
    machine = [known["processor"]] if "processor" in known else []
    machine += [counted(known[f"{part}s"], part) for part in ("core", "thread") if f"{part}s" in known]
    if known.get("device", "cpu") != "cpu":
        machine.insert(0, known["device"])
    if "torch" in known.get("packages", {}):
        machine.append(f"torch {known['packages']['torch']}")
    told = (
        f"{record.processes} processes × {rounds} rounds"
        if record.processes > 1
        else counted(rounds, "round")
    )
    alone = f" {ONE_PROCESS.capitalize()}." if record.processes == 1 else ""
    return f"{told}{' on ' if machine else ''}{', '.join(machine)}.{alone}"


def ratios(record: OverheadRecord, to: str) -> dict[str, Estimate]:
    """Contender -> step time over that of `to` in the same round; empty if `to` was not measured."""
    if to not in record.seconds:
        return {}
    reference = record.seconds[to]
    return {name: estimate(median_ratios(own, reference)) for name, own in record.seconds.items()}


def draw_ratios(record: OverheadRecord, measured: dict[str, Estimate], styles: Styles) -> bytes:
    """One row a contender, the cheapest on top: its step time and, where it was measured, its memory."""
    names = sorted(measured, key=lambda name: (measured[name].middle, name))
    memory = peak_ratios(record, BASELINE)
    colours = [styles[name]["color"] if name in styles else "#777777" for name in names]

    def draw(canvas: Figure) -> None:
        panels = canvas.subplots(1, 2 if memory else 1, sharey=True, squeeze=False)[0]
        for row, (name, colour) in enumerate(zip(names, colours, strict=True)):
            _draw_estimate(panels[0], row, measured[name], colour)
            if name in memory:
                _draw_estimate(panels[1], row, memory[name], colour)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()
        for axes, what in zip(panels, ("step time", "peak memory"), strict=False):
            axes.axvline(1.0, color="#777777", linewidth=1)
            axes.set_xlabel(f"{what} ÷ {BASELINE}'s")
        canvas.suptitle(record.name)

    return render(draw, (9.5 if memory else 6.5, 1.3 + 0.32 * len(names)))


def _draw_estimate(axes: Axes, row: int, found: Estimate, colour: str) -> None:
    middle, low, high = found
    if low is None or high is None:
        axes.plot(middle, row, "o", color=colour)
    else:
        axes.errorbar(
            middle, row, xerr=[[middle - low], [high - middle]], fmt="o", capsize=4, color=colour
        )  # fmt: skip


def peak_ratios(record: OverheadRecord, to: str) -> dict[str, Estimate]:
    """Contender -> peak memory over that of `to`; empty if that was not measured."""
    reference = record.peak_resident.get(to)
    if reference is None:
        return {}
    return {
        name: estimate(one / other for one, other in zip(peaks, reference, strict=True))
        for name, peaks in record.peak_resident.items()
    }


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
                _interval(_milliseconds(record, name), 1),
                _tokens(record, name),
                _interval(to_baseline.get(name), 3),
                _interval(estimate(mean_ratios(seconds, reference)), 3) if reference else MISSING,
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
    trainer = record.seconds[TRAINER]
    rows = [
        [
            name,
            _interval(_milliseconds(record, name), 1),
            _tokens(record, name),
            _interval(estimate(median_ratios(trainer, seconds)), 3),
            *_sizes(record, name, TRAINER),
        ]
        for name, seconds in record.seconds.items()
    ]
    return paragraphs(table(header, rows), *_whose_part(record))


def _whose_part(record: OverheadRecord) -> Iterator[str]:
    """What of our loop's speed beside the Trainer's is no part of a loop."""

    def faster(one: str, than: str) -> str:
        return _interval(estimate(median_ratios(record.seconds[than], record.seconds[one])), 3)

    if STOCK in record.seconds:
        yield (
            f"As each ships, `{OURS}` does {faster(OURS, TRAINER)} times as many steps in the same time as "
            f"`{TRAINER}`. With PyTorch's dropout in both it does {faster(STOCK, TRAINER)} times as many: "
            f"this part is the loop's. The rest, {faster(OURS, STOCK)} times, is the cheaply drawn dropout "
            "(`bench/dropout.py`), which is no part of a loop and which the Trainer's model has not."
        )
    elif "processes" not in record.config:
        yield (
            "A record of an earlier version: where the model has dropout, ours was drawn cheaply and the "
            "Trainer's was not, and how much of the ratio is due to that was not measured."
        )
    if ALL_LOGITS in record.seconds:
        yield (
            f"`{OURS}` computes logits for the answer's tokens alone, which takes "
            f"{faster(OURS, ALL_LOGITS)} times as many steps in the same time as `{ALL_LOGITS}`."
        )


def _milliseconds(record: OverheadRecord, name: str) -> Estimate:
    return estimate(1000 * seconds for seconds in medians(record.seconds[name]))


def _tokens(record: OverheadRecord, name: str) -> str:
    """Tokens that go in, by the usual second."""
    if not {"batch", "length"} <= record.config.keys():
        return MISSING
    tokens = record.config["batch"] * record.config["length"]
    return f"{1000 * tokens / _milliseconds(record, name).middle:,.0f}"


def _sizes(record: OverheadRecord, name: str, to: str) -> list[str]:
    """Peak memory, the same beside another contender's, and the number of parameters."""
    peaks, parameters = record.peak_resident.get(name), record.parameters.get(name)
    return [
        MISSING if peaks is None else _interval(estimate(peaks), 0),
        _interval(peak_ratios(record, to).get(name), 3),
        MISSING if parameters is None else f"{parameters:,}",
    ]


def _interval(value: Estimate | None, decimals: int) -> str:
    if value is None:
        return MISSING
    middle, *ends = value
    interval = f" [{', '.join(f'{end:,.{decimals}f}' for end in ends)}]" if None not in ends else ""
    return f"{middle:,.{decimals}f}{interval}"
