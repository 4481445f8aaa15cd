"""A comparison of two folders of results as JSON: every row, in the units that a reader takes them in."""

from __future__ import annotations

import math
from typing import Any

from rankbench.reports.compare.judge import Comparison, Finding
from rankbench.reports.compare.quantities import Quantity

FIGURES = (
    "kind", "unit", "lower_is_better", "seeds", "baseline", "candidate", "change", "margin", "p",
)  # fmt: skip
"""Keys of a row that are null where runs were lost."""


def as_json(found: Comparison, baseline: str, candidate: str) -> dict[str, Any]:
    """`baseline` and `candidate`: how to call the folders. The keys are docs/on-the-terminal.md's."""
    return {
        "baseline": baseline,
        "candidate": candidate,
        "regressed": found.regressed,
        "unjudged": found.unjudged,
        "rows": [_row(row) for row in found.rows],
        "new": found.paired.new,
        "reconfigured": found.paired.reconfigured,
        "measured_otherwise": {
            key: {"baseline": before, "candidate": after}
            for key, (before, after) in found.surroundings.items()
        },
    }


def _row(row: Finding) -> dict[str, Any]:
    told: dict[str, Any] = {
        "verdict": row.verdict,
        "fails": row.fails,
        "place": row.place,
        "adapter": row.adapter or None,
        "what": row.what,
    }
    if row.quantity is None or row.checked is None:
        return told | dict.fromkeys(FIGURES)
    quantity, checked, (before, after) = row.quantity, row.checked, row.quantity.means
    return told | {
        "kind": quantity.kind,
        "unit": quantity.unit,
        "lower_is_better": quantity.cell.lower_is_better,
        "seeds": checked.seeds,
        "baseline": _value(quantity, before),
        "candidate": _value(quantity, after),
        "change": _change(quantity, after - before),
        "margin": None if checked.margin is None else _change(quantity, checked.margin),
        "p": checked.p,
    }


def _value(quantity: Quantity, value: float) -> float:
    """Ratios are held by their logarithms."""
    return math.exp(value) if quantity.unit == "ratio" else value


def _change(quantity: Quantity, change: float) -> float:
    """Of a ratio the share that is added: 0.05 where it is 5 % higher."""
    return math.expm1(change) if quantity.unit == "ratio" else change
