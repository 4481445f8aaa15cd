"""Numbers and tables as Markdown text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from urllib.parse import quote

from tabulate import tabulate

from rankbench.bench.records import Scale
from rankbench.reports.stats.summary import Spread

MISSING = "–"
MARKS = re.compile(r"[*<]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What Markdown would take for a mark of its own in somebody else's words."""
HASH = re.compile(r"[0-9a-f]{40,}")


def paragraphs(*parts: str) -> str:
    """Blocks with a blank line between them; empty blocks vanish."""
    return "\n\n".join(part for part in parts if part)


def literal(text: str) -> str:
    """Somebody else's words as Markdown that shows them as they are: `*args`, `__init__`, `<class …>`."""
    return MARKS.sub(r"\\\g<0>", text)


def short_hashes(text: str) -> str:
    """The first twelve digits of each hash in it."""
    return HASH.sub(lambda found: found[0][:12], text)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A pipe table; the first `words` columns are words, the others numbers, set to the right."""
    align = ["left" if column < words else "right" for column in range(len(header))]
    escaped = [[_escape(cell) for cell in row] for row in rows]
    return tabulate(
        escaped, [_escape(name) for name in header], tablefmt="pipe", colalign=align, disable_numparse=True
    )


def figure(file_name: str, title: str, caption: str) -> str:
    """A figure of the page with its title and caption."""
    return f"![{title}](figures/{quote(file_name)})\n\n*{title}. {caption}*"


def metric_name(metric: str, scale: Scale) -> str:
    """A column heading that says how the metric was scaled."""
    return f"{metric} ×100" if scale.percent else metric


def score(value: Spread | None, fraction: bool, signed: bool = False) -> str:
    """mean ± sd (n), a fraction ×100 with two decimals; of one value no sd."""
    if not fraction:
        return quantity(value, signed)
    if value is None:
        return MISSING
    sign = "+" if signed else ""
    sd = "" if value.sd is None else f" ± {100 * value.sd:.2f}"
    return f"{100 * value.mean:{sign}.2f}{sd} ({value.n})"


def quantity(value: Spread | None, signed: bool = False) -> str:
    """mean ± sd (n), the mean to as many decimals as the sd's two digits, where these are few."""
    if value is None:
        return MISSING
    if value.sd and value.sd >= 1e-5:
        decimals = max(0, 1 - math.floor(math.log10(value.sd)))
        sign = "+" if signed else ""
        return f"{value.mean:{sign},.{decimals}f} ± {value.sd:,.{decimals}f} ({value.n})"
    sd = "" if value.sd is None else f" ± {value.sd:.2g}"
    return f"{number(value.mean, signed)}{sd} ({value.n})"


def ranged(value: float, low: float, high: float, fraction: bool, signed: bool = False) -> str:
    """mean [low, high], a fraction ×100."""
    return f"{_as_wide(value, high - low, fraction, signed)} {ends(low, high, fraction, signed)}"


def ends(low: float, high: float, fraction: bool, signed: bool = False) -> str:
    """[low, high], to as many decimals as half their distance has in two digits; a fraction ×100."""
    low_text, high_text = (_as_wide(end, high - low, fraction, signed) for end in (low, high))
    return f"[{low_text}, {high_text}]"


def plain(value: float, fraction: bool, signed: bool = False) -> str:
    """A value on its own, a fraction ×100."""
    return f"{100 * value:{'+' if signed else ''}.2f}" if fraction else number(value, signed)


def _as_wide(value: float, width: float, fraction: bool, signed: bool) -> str:
    if fraction or width < 2e-5:
        return plain(value, fraction, signed)
    decimals = max(0, 1 - math.floor(math.log10(width / 2)))
    return f"{value:{'+' if signed else ''},.{decimals}f}"


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
    return f"{value:{sign},.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:{sign}.4g}"


def counts(values: Sequence[int]) -> str:
    """Whole numbers that should agree over seeds: all the distinct ones."""
    return " / ".join(f"{value:,}" for value in sorted(set(values))) or MISSING


def _escape(cell: str) -> str:
    return " ".join(cell.split()).replace("|", r"\|")
