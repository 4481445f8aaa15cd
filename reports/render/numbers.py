"""Numbers as the report prints them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from rankbench.bench.records import Scale
from rankbench.reports.stats.summary import Spread

MISSING = "–"
IN_FULL = 1e9
"""Numbers below it have all their digits before the point; of larger ones four tell enough."""
HASH = re.compile(r"[0-9a-f]{40,}")


def short_hashes(text: str) -> str:
    """The first twelve digits of each hash in it."""
    return HASH.sub(lambda found: found[0][:12], text)


def metric_name(metric: str, scale: Scale) -> str:
    """A column heading that says how the metric was scaled."""
    return f"{metric} ×100" if scale.percent else metric


def score(value: Spread | None, fraction: bool) -> str:
    """mean ± sd (n), a fraction ×100 with two decimals; of one value no sd."""
    if not fraction:
        return quantity(value)
    if value is None:
        return MISSING
    sd = "" if value.sd is None else f" ± {100 * value.sd:.2f}"
    return f"{100 * value.mean:.2f}{sd} ({value.n})"


def quantity(value: Spread | None) -> str:
    """mean ± sd (n), the mean to as many decimals as the sd's two digits, where these are few."""
    if value is None:
        return MISSING
    if value.sd and value.sd >= 1e-5 and max(abs(value.mean), value.sd) < IN_FULL:
        decimals = max(0, 1 - math.floor(math.log10(value.sd)))
        return f"{value.mean:,.{decimals}f} ± {value.sd:,.{decimals}f} ({value.n})"
    sd = "" if value.sd is None else f" ± {value.sd:.2g}"
    return f"{number(value.mean)}{sd} ({value.n})"


def ranged(value: float, low: float, high: float, fraction: bool, signed: bool = False) -> str:
    """mean [low, high], a fraction ×100."""
    return f"{_as_wide(value, high - low, fraction, signed)} {ends(low, high, fraction, signed)}"


def ends(low: float, high: float, fraction: bool, signed: bool = False) -> str:
    """[low, high], to as many decimals as half their distance has in two digits; a fraction ×100."""
    low_text, high_text = (_as_wide(end, high - low, fraction, signed) for end in (low, high))
    return f"[{low_text}, {high_text}]"


def ratio(value: float, low: float, high: float) -> str:
    """A ratio [low, high]."""
    return f"{_factor(value, low, high)} {ratio_ends(low, high)}"


def ratio_ends(low: float, high: float) -> str:
    """[low, high] of a ratio."""
    return f"[{_factor(low, low, high)}, {_factor(high, low, high)}]"


def _factor(value: float, low: float, high: float) -> str:
    """With the decimals of an interval, if those leave its lower end two digits; else three digits."""
    decimals = _decimals(high - low)
    if low >= 10 ** (1 - decimals):
        return _as_wide(value, high - low, fraction=False, signed=False)
    return f"{value:,.0f}" if 999.5 <= value < IN_FULL else f"{value:.3g}"


def plain(value: float, fraction: bool, signed: bool = False) -> str:
    """A value on its own, a fraction ×100."""
    return f"{100 * value:{'+' if signed else ''}.2f}" if fraction else number(value, signed)


def _as_wide(value: float, width: float, fraction: bool, signed: bool) -> str:
    if fraction or width < 2e-5 or abs(value) >= IN_FULL:
        return plain(value, fraction, signed)
    return f"{value:{'+' if signed else ''},.{_decimals(width)}f}"


def _decimals(width: float) -> int:
    """That half of it has in two digits."""
    return max(0, 1 - math.floor(math.log10(max(width, 2e-5) / 2)))


def p_value(p: float | None) -> str:
    """Three decimals; smaller ones are not told apart."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def number(value: float | None, signed: bool = False) -> str:
    """Four significant digits, thousands in full."""
    if value is None:
        return MISSING
    sign = "+" if signed else ""
    return f"{value:{sign},.0f}" if 9999.5 <= abs(value) < IN_FULL else f"{value:{sign}.4g}"


def counts(values: Sequence[int]) -> str:
    """Whole numbers that should agree over seeds: all the distinct ones."""
    return " / ".join(f"{value:,}" for value in sorted(set(values))) or MISSING
