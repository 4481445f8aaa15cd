"""A figure drawn by Matplotlib, as bytes that never change for the same data."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib import colormaps, figure, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis as Rule
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import EngFormatter, NullLocator

from rankbench.reports.render.compact import compact
from rankbench.reports.render.figure import Axis, Figure, Heat, Level, Line, Mark, Panel, Points, Row
from rankbench.reports.render.looks import GREY, Look

STYLE: list[Any] = [
    "default",
    {
        "svg.hashsalt": "rankbench",
        "svg.fonttype": "none",
        "font.sans-serif": ["DejaVu Sans", "Verdana"],
        "figure.constrained_layout.use": True,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "legend.handlelength": 3.2,
    },
]
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle": "^"}
COLOURS = colormaps["viridis"].resampled(32)
"""So few that the scale is drawn, not stored as a picture, whose bytes differ from machine to machine."""


def svg(described: Figure) -> bytes:
    """The picture of a figure."""
    with style.context(STYLE):
        canvas = figure.Figure(figsize=described.size)
        panels = _panels(canvas, described)
        for axes, panel in zip(panels, described.panels, strict=True):
            for mark in panel.marks:
                _draw(axes, mark, panel)
            axes.set_title(panel.title, loc="left" if described.beside else "center")
            _set_axis(axes, "x", panel.x)
            _set_axis(axes, "y", panel.y)
        for axes in panels[1:] if described.beside and described.shared == "y" else []:
            axes.set_ylabel("")
        for axes in panels[:-1] if not described.beside and described.shared == "x" else []:
            axes.set_xlabel("")
        if described.title:
            canvas.suptitle(described.title)
        _add_scale(canvas, panels, described)
        _add_legend(canvas, panels)
        buffer = io.BytesIO()
        canvas.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
        )
    return compact(buffer.getvalue())


def _panels(canvas: figure.Figure, described: Figure) -> list[Axes]:
    count = len(described.panels)
    if described.beside:
        return list(canvas.subplots(1, count, sharey=described.shared == "y", squeeze=False).flat)
    heights = [len(panel.y.categories) or 1 for panel in described.panels]
    shared = described.shared == "x"
    return list(canvas.subplots(count, 1, sharex=shared, squeeze=False, height_ratios=heights).flat)


def _draw(axes: Axes, mark: Mark, panel: Panel) -> None:
    match mark:
        case Line(look):
            axes.plot(mark.x, mark.y, **_stroke(look))
            if mark.low:
                axes.fill_between(mark.x, mark.low, mark.high, color=look.colour, alpha=0.12, linewidth=0)
        case Points(look):
            axes.errorbar(
                mark.x,
                mark.y,
                yerr=_arms(mark.y, mark.low, mark.high) if mark.low else None,
                marker="o" if mark.joined else MARKERS[look.shape],
                markersize=mark.size,
                fillstyle="full" if mark.filled else "none",
                capsize=3,
                **_stroke(look) if mark.joined else {"color": look.colour, "ls": "", "label": look.name},
            )
        case Row():
            _draw_row(axes, mark, panel.y.categories.index(mark.name))
        case Level():
            _draw_level(axes, mark)
        case Heat():
            _draw_cells(axes, mark)


def _draw_row(axes: Axes, row: Row, place: int) -> None:
    colour = row.look.colour
    axes.errorbar(
        row.middle,
        place,
        xerr=None if row.low is None else _arms([row.middle], [row.low], [row.high]),
        fmt="o",
        color=colour,
        label=row.look.name if row.listed else None,
    )
    for end, is_open, arrow in ((row.low, row.open_low, "<"), (row.high, row.open_high, ">")):
        if end is not None:
            axes.plot(end, place, arrow if is_open else "|", color=colour, markersize=8, clip_on=not is_open)


def _stroke(look: Look) -> dict[str, Any]:
    dash = (0, look.dash) if look.dash else "-"
    return {"color": look.colour, "linestyle": dash, "linewidth": look.width, "label": look.name}


def _arms(middle: Any, low: Any, high: Any) -> Any:
    """Lengths of the bars below and above."""
    return np.subtract(middle, low), np.subtract(high, middle)


def _draw_level(axes: Axes, level: Level) -> None:
    across = axes.axvline if level.vertical else axes.axhline
    across(level.at, color=GREY, linewidth=1, linestyle=(0, (4, 3)) if level.name else "-")
    if level.name:
        place, beside = ((level.at, 1), "center") if level.vertical else ((1, level.at), "right")
        coordinates: Any = ("data", "axes fraction") if level.vertical else ("axes fraction", "data")
        legible = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        axes.annotate(
            level.name, place, xycoords=coordinates, ha=beside, va="bottom", fontsize=8, bbox=legible
        )


def _draw_cells(axes: Axes, heat: Heat) -> None:
    cells = np.array(heat.cells, float)
    edges = [np.arange(count + 1) - 0.5 for count in reversed(cells.shape)]
    axes.pcolormesh(*edges, cells, cmap=COLOURS, vmin=0, vmax=heat.highest, edgecolors="white")
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            colour = "black" if value > 0.6 * heat.highest else "white"
            axes.text(column, row, f"{value:.2g}", ha="center", va="center", color=colour, fontsize=8)


def _set_axis(axes: Axes, letter: str, axis: Axis) -> None:
    rule: Rule = getattr(axes, f"{letter}axis")
    axes.set(**{f"{letter}label": axis.label})
    if axis.log:
        getattr(axes, f"set_{letter}scale")("log", base=axis.log, nonpositive="mask")
    if axis.range:
        axes.set(**{f"{letter}lim": axis.range})
    if axis.categories:
        rule.set_ticks(range(len(axis.categories)), list(axis.categories))
        rule.set_inverted(letter == "y")
    elif axis.ticks:
        rule.set_ticks(list(axis.ticks), [f"{tick:g}" for tick in axis.ticks])
        rule.set_minor_locator(NullLocator())
    elif axis.thousands:
        rule.set_major_formatter(EngFormatter(sep=""))
    elif axis.log == 2:
        rule.set_major_formatter("{x:g}")


def _add_scale(canvas: figure.Figure, panels: list[Axes], described: Figure) -> None:
    heat = next((mark for panel in described.panels for mark in panel.marks if isinstance(mark, Heat)), None)
    if heat:
        canvas.colorbar(ScalarMappable(Normalize(0, heat.highest), COLOURS), ax=panels, label=heat.label)


def _add_legend(canvas: figure.Figure, panels: list[Axes]) -> None:
    """Each name once."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    canvas.legend(list(handles.values()), list(handles), loc="outside right upper")
