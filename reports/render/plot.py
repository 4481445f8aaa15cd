"""How figures look, and how they become bytes that never change for the same data."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rankbench.reports.frames import BASELINE, Suite, in_order

# Okabe and Ito's colours for any eyes, less the yellow that white paper swallows.
COLOURS = ["#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"]
DASHES: list[Any] = ["-", (0, (6, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5))]
LOOK: list[Any] = [
    "default",
    {
        "svg.hashsalt": "rankbench",
        "figure.constrained_layout.use": True,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.alpha": 0.3,
        "legend.frameon": False,
        "legend.handlelength": 3.2,
    },
]
POINTS = 120
"""Most points a line is drawn with; more would not be seen, only stored."""

Style = dict[str, Any]
Styles = dict[str, Style]


class Band(NamedTuple):
    """A quantity over the steps: mean, smallest and largest over the seeds."""

    steps: NDArray[Any]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    seeds: int


def styles(suite: Suite) -> Styles:
    """Label -> line style, the same in every figure; the ranks of a sweep share one."""
    swept = {name for group in suite.groups for name in group.ranks}
    return looks(swept | {label for group in suite.groups if not group.is_rank_sweep for label in group.runs})


def looks(names: Iterable[str]) -> Styles:
    """A line style for each name and for the baseline."""
    return {
        name: {
            "color": COLOURS[index % len(COLOURS)],
            "linestyle": DASHES[index % len(DASHES)],
            # Broad and below the others, so that a line which coincides with it is still seen.
            "linewidth": 2.6 if name == BASELINE else 1.5,
            "zorder": 2.0 if name == BASELINE else 2.5,
            "label": name,
        }
        for index, name in enumerate(in_order({*names, BASELINE}))
    }


def render(draw: Callable[[Figure], None], size: tuple[float, float]) -> bytes:
    """Draw on a figure of `size` inches and return its SVG."""
    with style.context(LOOK):
        figure = Figure(figsize=size)
        draw(figure)
        handles: dict[str, Any] = {}
        for axes in figure.axes:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(list(handles.values()), list(handles), loc="outside right upper")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def band(frame: pd.DataFrame, *, geometric: bool = False) -> Band:
    """Of one row a step and one column a seed, at no more than `POINTS` steps. `geometric`: the mean of the
    logarithms, as ratios need it."""
    rows = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), POINTS)).round().astype(int))
    frame = frame.iloc[rows]
    steps = frame.index.to_numpy()
    with np.errstate(divide="ignore"):  # a loss of zero has no logarithm: its mean is zero too
        mean = (np.exp(np.log(frame).mean(axis=1)) if geometric else frame.mean(axis=1)).to_numpy()
    return Band(steps, mean, frame.min(axis=1).to_numpy(), frame.max(axis=1).to_numpy(), frame.shape[1])


def draw_band(axes: Axes, frame: pd.DataFrame, look: Style, *, geometric: bool = False) -> None:
    """The mean over the columns (seeds), and the range from smallest to largest around it."""
    found = band(frame, geometric=geometric)
    axes.plot(found.steps, found.mean, **look)
    if found.seeds > 1:
        axes.fill_between(found.steps, found.low, found.high, color=look["color"], alpha=0.12, linewidth=0)


def log_values(axes: Axes, base: int = 10) -> None:
    """A logarithmic axis of values on which a zero is a gap, not a fall to the floor."""
    axes.set_yscale("log", base=base, nonpositive="mask")


def spans_decades(values: Iterable[float], factor: float = 100.0) -> bool:
    """Whether positive values range over so much that only a logarithmic axis shows them."""
    positive = [value for value in values if value > 0]
    return bool(positive) and max(positive) > factor * min(positive)
