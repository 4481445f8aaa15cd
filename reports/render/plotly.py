"""A figure drawn by Plotly, as the JSON that the page stores: panels one below the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np
from plotly import graph_objects as go
from plotly.basedatatypes import BaseTraceType
from plotly.subplots import make_subplots

from rankbench.reports.render.figure import Axis, Figure, Heat, Level, Line, Numbers, Panel, Points, Row
from rankbench.reports.render.looks import GREY, Look

INK = "#000000"
"""The page draws it in the colour of its text, so that it is seen on a dark background too."""
FAINT = "rgba(128,128,128,0.3)"
CLEAR = "rgba(0,0,0,0)"
SYMBOLS = {"circle": "circle", "square": "square", "diamond": "diamond", "triangle": "triangle-up"}
LAYOUT = {
    "template": None,
    "margin": {"l": 10, "r": 10, "t": 40, "b": 10},
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
    "hovermode": "closest",
    "modebar": {"bgcolor": CLEAR, "color": FAINT, "activecolor": GREY},
    "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
}
AXIS = {"gridcolor": FAINT, "linecolor": FAINT, "zerolinecolor": FAINT, "automargin": True}
AT = "%{y:.4g} at %{x}"
NO_END = "%{y}: this end is not known"
DIGITS = 6
"""Of a number: more is not seen, and the last ones differ from processor to processor."""

Json = dict[str, Any]


def plotly(described: Figure) -> Json:
    """Data and layout of a figure, valid by Plotly's own schema."""
    heights = [60 + 30 * len(panel.y.categories) if panel.y.categories else 260 for panel in described.panels]
    gap = 40 if described.shared == "x" else 80
    height = sum(heights) + gap * (len(heights) - 1)
    drawn = make_subplots(
        rows=len(heights),
        cols=1,
        shared_xaxes=described.shared == "x",
        shared_yaxes="all" if described.shared == "y" else False,
        row_heights=heights,
        vertical_spacing=gap / height,
        subplot_titles=[_text(panel.title) for panel in described.panels],
    )
    drawn.update_annotations(x=0, xanchor="left", font_size=13)
    drawn.update_layout(LAYOUT, height=height + 110)
    drawn.update_layout(title={"text": _text(described.title), "x": 0, "xanchor": "left", "font_size": 15})
    drawn.update_xaxes(AXIS)
    drawn.update_yaxes(AXIS)
    for row, panel in enumerate(described.panels, 1):
        where = {"row": row, "col": 1}
        drawn.add_traces([*_traces(panel)], rows=row, cols=1)
        drawn.update_xaxes(_axis(panel.x, 3), **where)
        drawn.update_yaxes(_axis(panel.y, 4), autorange="reversed" if panel.y.categories else None, **where)
        for mark in panel.marks:
            if isinstance(mark, Level):
                _draw_level(drawn, mark, panel, where)
            if isinstance(mark, Heat):
                drawn.update_layout(coloraxis=_scale(mark))
                drawn.update_xaxes(showgrid=False, **where)
                drawn.update_yaxes(showgrid=False, **where)
        if described.shared == "x" and row < len(heights):
            drawn.update_xaxes(title_text="", **where)
    _list_once(drawn)
    return _rounded(drawn.to_plotly_json())


def _traces(panel: Panel) -> Iterator[BaseTraceType]:
    """Of marks that hold data; the bands lie below all others."""
    yield from (_band(mark) for mark in panel.marks if isinstance(mark, Line) and mark.low)
    for mark in panel.marks:
        match mark:
            case Line(look, x, y):
                yield go.Scatter(_named(look), x=x, y=y, mode="lines", line=_line(look), hovertemplate=AT)
            case Points(look, x, y):
                yield go.Scatter(
                    _named(look),
                    x=x,
                    y=y,
                    error_y=_bars(look, y, mark.low, mark.high),
                    mode="lines+markers" if mark.joined else "markers",
                    line=_line(look),
                    marker=_marker(mark),
                    hovertext=[_text(note) for note in mark.notes],
                    hovertemplate="%{hovertext}" if mark.notes else AT,
                )
            case Row():
                yield _row(mark)
            case Heat(cells):
                yield go.Heatmap(
                    x=[_text(name) for name in panel.x.categories],
                    y=[_text(name) for name in panel.y.categories],
                    z=cells,
                    coloraxis="coloraxis",
                    xgap=1,
                    ygap=1,
                    texttemplate="%{z:.2~g}",
                    hovertemplate="%{y}, %{x}: %{z:.3~g}<extra></extra>",
                )


def _row(row: Row) -> go.Scatter:
    """The value, and an arrow over each end that is not known: Plotly caps both."""
    points = [(row.middle, "circle", "%{y}: %{x:.4g}")]
    bars: Json = {}
    if row.low is not None and row.high is not None:
        points += [(row.low, "triangle-left", NO_END)] if row.open_low else []
        points += [(row.high, "triangle-right", NO_END)] if row.open_high else []
        bars = _bars(row.look, [row.middle], [row.low], [row.high])
    x, symbols, told = zip(*points, strict=True)
    return go.Scatter(
        _named(row.look),
        x=x,
        y=[_text(row.name)] * len(x),
        error_x=bars,
        mode="markers",
        marker={"size": 9, "color": row.look.colour, "symbol": symbols},
        cliponaxis=not (row.open_low or row.open_high),
        showlegend=None if row.listed else False,
        hovertemplate=told,
    )


def _band(line: Line) -> go.Scatter:
    return go.Scatter(
        _named(line.look),
        x=[*line.x, *reversed(line.x)],
        y=[*line.high, *reversed(line.low)],
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=line.look.colour,
        opacity=0.12,
        hoverinfo="skip",
        showlegend=False,
    )


def _named(look: Look) -> Json:
    """Traces of one name are hidden and shown together."""
    return {"name": _text(look.name), "legendgroup": look.name}


def _line(look: Look) -> Json:
    dash = ",".join(f"{part * look.width:g}px" for part in look.dash)
    return {"color": look.colour, "width": look.width, "dash": dash or "solid"}


def _marker(points: Points) -> Json:
    symbol = "circle" if points.joined else SYMBOLS[points.look.shape]
    size = 2 * points.size
    return {"size": size, "color": points.look.colour, "symbol": symbol + "-open" * (not points.filled)}


def _bars(look: Look, middle: Numbers, low: Numbers, high: Numbers) -> Json:
    if not low:
        return {}
    return {
        "type": "data",
        "symmetric": False,
        "array": np.subtract(high, middle).tolist(),
        "arrayminus": np.subtract(middle, low).tolist(),
        "color": look.colour,
        "thickness": 1.5,
    }


def _draw_level(drawn: go.Figure, level: Level, panel: Panel, where: Json) -> None:
    line = {"color": GREY, "width": 1, "dash": "dash" if level.name else "solid"}
    if level.vertical:
        drawn.add_vline(level.at, line=line, **where)
        place = {"x": _place(level.at, panel.x), "y": 1, "yref": "y domain"}
    else:
        drawn.add_hline(level.at, line=line, **where)
        place = {"x": 1, "xref": "x domain", "xanchor": "right", "y": _place(level.at, panel.y)}
    if level.name:
        drawn.add_annotation(place, text=_text(level.name), showarrow=False, yanchor="bottom", **where)


def _place(value: float, axis: Axis) -> float:
    """Where annotations and ranges have a value: on logarithmic axes at its logarithm."""
    return math.log10(value) if axis.log else value


def _axis(axis: Axis, most: int) -> Json:
    """`most`: ticks of a logarithmic axis, beyond which Plotly writes all digits over one another."""
    found: Json = {"title": {"text": _text(axis.label), "standoff": 8, "font": {"size": 13}}}
    if axis.log:
        found |= {"type": "log", "tickformat": "~g", "nticks": most}
    if axis.thousands:
        found["tickformat"] = "~s"
    if axis.range:
        found["range"] = [_place(end, axis) for end in axis.range]
    if axis.ticks:
        found["tickvals"] = axis.ticks
    if axis.categories:  # said to be one, since a name like "1e-3" looks like a number
        found |= {"type": "category", "categoryarray": [_text(name) for name in axis.categories]}
    return found


def _scale(heat: Heat) -> Json:
    beside = {
        "title": {"text": _text(heat.label), "side": "right", "font": {"size": 13}},
        "thickness": 12,
        "outlinewidth": 0,
    }
    return {"colorscale": "Viridis", "cmin": 0, "cmax": heat.highest, "colorbar": beside}


def _list_once(drawn: go.Figure) -> None:
    """The legend has each name once."""
    listed: set[str] = set()
    for trace in drawn.select_traces(lambda trace: trace.showlegend is None):
        trace.showlegend = trace.legendgroup not in {None, *listed}
        listed.add(trace.legendgroup)


def _text(text: str) -> str:
    """Text that Plotly shows as it is, and does not read as tags."""
    return escape(text, quote=False)


def _rounded(value: Any) -> Any:
    """Numbers in `DIGITS` digits; what is none is left out, as JSON cannot say it."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value
