"""How Plotly figures look: the same colours and dashes as in the SVG figures, on any background.

They are data, written as Plotly's schema wants them; the tests hold them against that schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from rankbench.reports.render.plot import Style, band

INK = "#000000"
"""The page draws it in the colour of its text, so that it is seen on a dark background too."""
GREY = "rgba(128,128,128,0.3)"
CLEAR = "rgba(0,0,0,0)"
UNSTYLED: Style = {"color": "#777777", "linestyle": "-", "linewidth": 1.5}

Json = dict[str, Any]


@dataclass
class Canvas:
    """A figure of panels one above the other, numbered from 0."""

    panels: int
    height: int
    shared: bool = False
    """Whether the panels have one axis of x."""
    data: list[Json] = field(init=False, default_factory=list)
    layout: Json = field(init=False)

    def __post_init__(self) -> None:
        self.layout = {
            "height": self.height,
            "margin": {"l": 10, "r": 10, "t": 30, "b": 10},
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
            "title": {"x": 0, "xanchor": "left", "font": {"size": 15}},
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "hovermode": "closest",
            "modebar": {"bgcolor": CLEAR, "color": GREY, "activecolor": "#777777"},
            "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        }
        gap = 0.05 if self.shared else 0.09
        each = (1 - gap * (self.panels - 1)) / self.panels
        lines = {"gridcolor": GREY, "linecolor": GREY, "zerolinecolor": GREY, "automargin": True}
        for panel in range(self.panels):
            index, top = _index(panel), 1 - panel * (each + gap)
            below = self.layout[f"xaxis{index}"] = {"anchor": f"y{index}", **lines}
            beside = {"anchor": f"x{index}", "domain": [max(0.0, top - each), top], **lines}
            self.layout[f"yaxis{index}"] = beside
            if self.shared and panel:
                below["matches"] = "x"
            if self.shared and panel < self.panels - 1:
                below["showticklabels"] = False

    def title(self, text: str) -> None:
        """A title on the left."""
        self.layout["title"]["text"] = words(text)

    def axis(self, letter: str, panel: int, title: str = "", *, log: bool = False, **settings: Any) -> None:
        """What an axis says; `log`: in multiples, with every tick written out."""
        found = self.layout[f"{letter}axis{_index(panel)}"]
        found["title"] = {"text": words(title), "standoff": 8, "font": {"size": 13}}
        found.update({"type": "log", "tickformat": "~g"} if log else {})
        found.update(settings)

    def add(self, panel: int, label: str, **trace: Any) -> None:
        """A trace; those of one label share their entry in the legend, which hides and shows them."""
        listed = any(other["legendgroup"] == label and other["showlegend"] for other in self.data)
        where = {"xaxis": f"x{_index(panel)}", "yaxis": f"y{_index(panel)}"}
        of = {"type": "scatter", "name": words(label), "legendgroup": label, "showlegend": not listed}
        self.data.append({**of, **where, **trace})

    def figure(self) -> Json:
        """What the page stores."""
        return {"data": self.data, "layout": self.layout}


def words(text: str) -> str:
    """Text that Plotly shows as it is, and does not read as tags."""
    return escape(text, quote=False)


def draw_bands(
    canvas: Canvas,
    panel: int,
    frames: Mapping[str, pd.DataFrame],
    styles: Mapping[str, Style],
    *,
    geometric: bool = False,
) -> None:
    """Each label's mean over the seeds, and below all lines the ranges from smallest to largest."""
    found = {label: band(frame, geometric=geometric) for label, frame in frames.items()}
    for label, values in found.items():
        steps = values.steps.tolist()
        if values.seeds > 1:
            canvas.add(
                panel,
                label,
                x=steps + steps[::-1],
                y=values.high.tolist() + values.low.tolist()[::-1],
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=styles.get(label, UNSTYLED)["color"],
                opacity=0.12,
                hoverinfo="skip",
                showlegend=False,
            )
    for label, values in found.items():
        canvas.add(
            panel,
            label,
            x=values.steps.tolist(),
            y=values.mean.tolist(),
            mode="lines",
            line=line(styles.get(label, UNSTYLED)),
            hovertemplate="%{y:.4g} at step %{x}",
        )


def line(look: Style) -> Json:
    """A line style of the SVG figures for Plotly."""
    dashes = look["linestyle"]
    dash = "solid" if dashes == "-" else ",".join(f"{part * look['linewidth']:g}px" for part in dashes[1])
    return {"color": look["color"], "width": look["linewidth"], "dash": dash}


def bars(middle: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> Json:
    """Error bars from `low` to `high`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [above - value for above, value in zip(high, middle, strict=True)],
        "arrayminus": [value - below for below, value in zip(low, middle, strict=True)],
        "color": colour,
        "thickness": 1.5,
    }


def _index(panel: int) -> str:
    return "" if panel == 0 else str(panel + 1)
