"""A comparison of two folders of results as Markdown, the worst first."""

from __future__ import annotations

import math
from collections import Counter
from typing import get_args

from rankbench.reports.compare.judge import FAILING, UNJUDGED, WORST_FIRST, Comparison, Finding
from rankbench.reports.compare.quantities import Kind, Quantity
from rankbench.reports.render.markdown import paragraphs, table
from rankbench.reports.render.numbers import MISSING, number, p_value
from rankbench.reports.render.words import words
from rankbench.reports.stats.decision import ALPHA

HEADER = ["verdict", "task", "adapter", "what", "seeds", "baseline", "candidate", "change", "margin", "p"]
WORDS = 4


def page(found: Comparison, baseline: str, candidate: str, *, everything: bool = False) -> str:
    """What fails, and what is worse by more than its margin if not surely so; all rows with `everything`.

    `baseline` and `candidate`: how to call the folders.
    """
    listed = [row for row in found.rows if everything or row.fails or row.worse_by > 1]
    paired = found.paired
    return paragraphs(
        f"# {candidate} against {baseline}",
        _headline(found),
        table(HEADER, [_cells(row) for row in listed], WORDS) if listed else "",
        _summary(found.rows, listed),
        _list("New, not judged", paired.new),
        _list("Configured otherwise", paired.reconfigured),
        _list(
            "Measured otherwise", [f"{key} {was} → {now}" for key, (was, now) in found.surroundings.items()]
        ),
        words("compare", alpha=ALPHA, method=paired.method) if any(row.checked for row in listed) else "",
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


def _summary(rows: list[Finding], listed: list[Finding]) -> str:
    """Verdicts of the rows that are not listed, by kind."""
    hidden = [row for row in rows if row.quantity and row not in listed]
    told = []
    for kind in get_args(Kind):
        seen = Counter(row.verdict for row in hidden if row.quantity and row.quantity.kind == kind)
        if seen:
            told.append(f"{kind} {', '.join(f'{seen[one]} {one}' for one in WORST_FIRST if one in seen)}")
    return f"Not listed (`--all` lists them): {'; '.join(told)}." if told else ""


def _list(title: str, entries: list[str]) -> str:
    return f"{title}: {'; '.join(entries)}." if entries else ""


def _cells(row: Finding) -> list[str]:
    names = [row.verdict, row.place, row.adapter or MISSING, row.what]
    if row.quantity is None or row.checked is None:
        return [*names, *[MISSING] * (len(HEADER) - WORDS)]
    checked, (before, after) = row.checked, row.quantity.means
    return [
        *names,
        str(checked.seeds),
        _value(row.quantity, before),
        _value(row.quantity, after),
        _change(row.quantity, after - before, signed=True),
        MISSING if checked.margin is None else _change(row.quantity, checked.margin),
        p_value(checked.p),
    ]


def _value(quantity: Quantity, value: float) -> str:
    if quantity.kind in ("step time", "peak memory"):
        return f"{math.exp(value):.3f}"
    if quantity.unit == "points":
        return f"{value:.2f}"
    return number(math.exp(value) if quantity.unit == "ratio" else value)


def _change(quantity: Quantity, change: float, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if quantity.unit == "ratio":
        return f"{100 * math.expm1(change):{sign},.1f} %"
    return f"{change:{sign}.2f}" if quantity.unit == "points" else number(change, signed)
