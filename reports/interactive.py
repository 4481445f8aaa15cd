"""How Plotly figures look: the same colours and dashes as in the SVG figures, on any background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from reports.plot import Style, band

INK = "#000000"
"""The page draws it in the colour of its text, so that it is seen on a dark background too."""
GREY = "rgba(128,128,128,0.3)"
UNSTYLED: Style = {"color": "#777777", "linestyle": "-", "linewidth": 1.5}


def words(text: str) -> str:
    """Text that Plotly shows as it is, and does not read as tags."""
    return escape(text, quote=False)


def canvas(panels: int, height: int, *, shared: bool = False) -> go.Figure:
    """An empty figure of panels one above the other; `shared`: they have one axis of x."""
    figure = go.Figure(layout={"template": "none"})
    room = 0.05 if shared else 0.09
    each = (1 - room * (panels - 1)) / panels
    for panel in range(panels):
        top = 1 - panel * (each + room)
        index = "" if panel == 0 else str(panel + 1)
        lines = {"gridcolor": GREY, "linecolor": GREY, "zerolinecolor": GREY, "automargin": True}
        below: dict[str, Any] = {
            "anchor": f"y{index}",
            "title": {"standoff": 8, "font": {"size": 13}},
            **lines,
        }
        if shared and panel:
            below["matches"] = "x"
        if shared and panel < panels - 1:
            below["showticklabels"] = False
        beside = {"anchor": f"x{index}", "domain": [max(0.0, top - each), top], **lines}
        beside["title"] = {"standoff": 8, "font": {"size": 13}}
        figure.update_layout({f"xaxis{index}": below, f"yaxis{index}": beside})
    figure.update_layout(
        height=height,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="closest",
        title={"x": 0, "xanchor": "left", "font": {"size": 15}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": "#777777"},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    )
    return figure


def axes(panel: int) -> dict[str, str]:
    """Where a trace of the panel (from 0) is drawn."""
    index = "" if panel == 0 else str(panel + 1)
    return {"xaxis": f"x{index}", "yaxis": f"y{index}"}


def name_axes(figure: go.Figure, panel: int, x: str | None, y: str, *, log: bool = False) -> None:
    """Titles of a panel's axes; `log`: a logarithmic axis of values."""
    index = "" if panel == 0 else str(panel + 1)
    if x is not None:
        figure.update_layout({f"xaxis{index}": {"title": {"text": words(x)}}})
    kind = {"type": "log", "tickformat": "~g"} if log else {"type": "linear"}
    figure.update_layout({f"yaxis{index}": {"title": {"text": words(y)}, **kind}})


def draw_bands(
    figure: go.Figure, panel: int, frames: Mapping[str, pd.DataFrame], styles: Mapping[str, Style]
) -> None:
    """Each label's mean over the seeds, and below all lines the ranges from smallest to largest."""
    found = {label: band(frame) for label, frame in frames.items()}
    for label, values in found.items():
        steps = values.steps.tolist()
        if values.seeds > 1:
            figure.add_scatter(
                x=steps + steps[::-1],
                y=values.high.tolist() + values.low.tolist()[::-1],
                fill="toself",
                fillcolor=styles.get(label, UNSTYLED)["color"],
                opacity=0.12,
                line={"width": 0},
                mode="lines",
                name=words(label),
                legendgroup=label,
                hoverinfo="skip",
                showlegend=False,
                **axes(panel),
            )
    for label, values in found.items():
        figure.add_scatter(
            x=values.steps.tolist(),
            y=values.mean.tolist(),
            mode="lines",
            line=line(styles.get(label, UNSTYLED)),
            name=words(label),
            legendgroup=label,
            showlegend=not any(trace.legendgroup == label and trace.showlegend for trace in figure.data),
            hovertemplate="%{y:.4g} at step %{x}",
            **axes(panel),
        )


def line(look: Style) -> dict[str, Any]:
    """A line style of the SVG figures for Plotly."""
    dashes = look["linestyle"]
    dash = "solid" if dashes == "-" else ",".join(f"{part * look['linewidth']:g}px" for part in dashes[1])
    return {"color": look["color"], "width": look["linewidth"], "dash": dash}


def bars(middle: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> dict[str, Any]:
    """Error bars from `low` to `high`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [above - value for above, value in zip(high, middle, strict=True)],
        "arrayminus": [value - below for below, value in zip(low, middle, strict=True)],
        "color": colour,
        "thickness": 1.5,
    }


def plain(figure: go.Figure) -> dict[str, Any]:
    """What the page stores: traces and layout, without Plotly's default template."""
    content = figure.to_dict()
    content["layout"].pop("template", None)
    return content
