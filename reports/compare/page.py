"""A comparison of two folders of results as Markdown, the worst first."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import get_args

from rankbench.reports.compare.figures import Figure, Kind
from rankbench.reports.compare.judge import FAILING, UNJUDGED, WORST_FIRST, Comparison, Row
from rankbench.reports.frames import BASELINE
from rankbench.reports.render.markdown import MISSING, number, paragraphs, table

HEADER = ["verdict", "task", "adapter", "what", "seeds", "baseline", "candidate", "change", "margin", "p"]
WORDS = 4
HOW_TO_READ = (
    "Means over the seeds (overhead: processes) that both have. A figure regressed if it is worse by more "
    "than its margin, the baseline's own spread over seeds and at least a fixed one, and surely worse: p, "
    "one-sided on the paired changes, after Holm over all figures, below 0.05. Inconclusive: neither that "
    "nor surely within the margin. For a single seed the baseline's spread over seeds is the noise. "
    f"Costs are ratios to {BASELINE}'s in the same measurement of overhead, so they also rise where "
    f"{BASELINE} got cheaper; what the runs themselves took is not compared."
)


def page(found: Comparison, baseline: str, candidate: str, *, everything: bool = False) -> str:
    """What fails, and what is worse by more than its margin if not surely so; all rows with `everything`.

    `baseline` and `candidate`: how to call the folders.
    """
    listed = [row for row in found.rows if everything or row.fails or row.worse_by > 1]
    pairs = found.pairs
    return paragraphs(
        f"# {candidate} against {baseline}",
        _headline(found),
        table(HEADER, [_cells(row) for row in listed], WORDS) if listed else "",
        _summary(found.rows, listed),
        _list("New, not judged", pairs.new),
        _list("Configured otherwise", pairs.reconfigured),
        _list(
            "Measured otherwise", [f"{key} {was} → {now}" for key, (was, now) in found.surroundings.items()]
        ),
        HOW_TO_READ if any(row.checked for row in listed) else "",
    )


def _headline(found: Comparison) -> str:
    seen = Counter(row.verdict for row in found.rows)
    failing = ", ".join(f"{seen[one]} {one}" for one in FAILING if seen[one])
    if failing:
        told = f"**Regression: {failing}**, of {len(found.rows)} rows."
    elif found.unjudged:
        told = f"**Not judged: {' and '.join(found.unjudged)}**."
    elif seen["identical"] == len(found.rows):
        return f"**Identical**: all {len(found.rows)} figures, to the last bit."
    else:
        told = f"**No regression** in {len(found.rows) - seen[UNJUDGED]} figures."
    return f"{told} {_unjudged(seen[UNJUDGED])}" if seen[UNJUDGED] else told


def _unjudged(count: int) -> str:
    return (
        f"**{count} could not be judged**, whatever the change: of their task the baseline has one seed (one "
        "process, of a cost: its rounds are no replicates), so its noise is unknown. Give it two or more."
    )


def _summary(rows: list[Row], listed: list[Row]) -> str:
    """Verdicts of the rows that are not listed, by kind."""
    hidden = [row for row in rows if row.figure and row not in listed]
    told = []
    for kind in get_args(Kind):
        seen = Counter(row.verdict for row in hidden if row.figure and row.figure.kind == kind)
        if seen:
            told.append(f"{kind} {', '.join(f'{seen[one]} {one}' for one in WORST_FIRST if one in seen)}")
    return f"Not listed (`--all` lists them): {'; '.join(told)}." if told else ""


def _list(title: str, entries: list[str]) -> str:
    return f"{title}: {'; '.join(entries)}." if entries else ""


def _cells(row: Row) -> list[str]:
    names = [row.verdict, row.place, row.adapter or MISSING, row.what]
    if row.figure is None or row.checked is None:
        return [*names, *[MISSING] * (len(HEADER) - WORDS)]
    cell, checked = row.figure.cell, row.checked
    shared = sorted(cell.baseline.keys() & cell.candidate.keys())
    before, after = (
        statistics.fmean(side[seed] for seed in shared) for side in (cell.baseline, cell.candidate)
    )
    return [
        *names,
        str(checked.seeds),
        _value(row.figure, before),
        _value(row.figure, after),
        _change(row.figure, after - before, signed=True),
        MISSING if checked.margin is None else _change(row.figure, checked.margin),
        MISSING if checked.p is None else "< 0.001" if checked.p < 0.001 else f"{checked.p:.3f}",
    ]


def _value(figure: Figure, value: float) -> str:
    if figure.kind in ("step time", "peak memory"):
        return f"{math.exp(value):.3f}"
    if figure.unit == "points":
        return f"{value:.2f}"
    return number(math.exp(value) if figure.unit == "ratio" else value)


def _change(figure: Figure, change: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if figure.unit == "ratio":
        return f"{100 * math.expm1(change):{sign},.1f} %"
    return f"{change:{sign}.2f}" if figure.unit == "points" else number(change, signed)
