"""What a drawing shows, whole: panels of marks on axes. `svg` draws it for the report, `plotly` for the
page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rankbench.reports.render.looks import Look

POINTS = 120
"""Most points a line is drawn with; more would not be seen, only stored."""

Numbers = Sequence[float]


@dataclass(frozen=True)
class Line:
    """A line and, where `low` and `high` are given, the band between them."""

    look: Look
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()


@dataclass(frozen=True)
class Points:
    """Markers with vertical bars from `low` to `high`, where these are given."""

    look: Look
    x: Numbers
    y: Numbers
    low: Numbers = ()
    high: Numbers = ()
    joined: bool = False
    """By a line; what is not has the shape of its look instead of circles."""
    filled: bool = True
    size: float = 4
    """In points."""
    notes: Sequence[str] = ()
    """What the page says of each point when it is pointed at, in place of its place."""


@dataclass(frozen=True)
class Row:
    """A value and its interval, from left to right, beside its name among the y axis's categories."""

    look: Look
    name: str
    middle: float
    low: float | None = None
    high: float | None = None
    open_low: bool = False
    """Whether the interval has no end there: it is drawn as far as `low`, with an arrow."""
    open_high: bool = False
    listed: bool = False
    """Whether the legend has the look's name."""


@dataclass(frozen=True)
class Level:
    """A line across the panel to compare with; a named one is dashed and has its name at its end."""

    at: float
    name: str = ""
    vertical: bool = False


@dataclass(frozen=True)
class Heat:
    """A coloured cell for each pair of categories, the light ones high; all of a figure have one scale."""

    cells: Sequence[Sequence[float | None]]
    """Row by row; None where there is nothing."""
    highest: float
    """Where the colours end; they begin at 0."""
    label: str


Mark = Line | Points | Row | Level | Heat


@dataclass(frozen=True)
class Axis:
    """What an axis says and how it runs."""

    label: str = ""
    log: int | None = None
    """The base of a logarithmic axis, on which zeros are gaps."""
    range: tuple[float, float] | None = None
    ticks: Numbers = ()
    """Written out, and no others."""
    categories: Sequence[str] = ()
    """From left to right, or from top to bottom; numbers have no place on such an axis."""
    thousands: bool = False
    """Whether ticks read 10k in place of 10000."""


@dataclass(frozen=True)
class Panel:
    """Marks on a pair of axes; a later one lies above."""

    marks: Sequence[Mark]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""


@dataclass(frozen=True)
class Figure:
    """Panels one below the other, or `beside` each other where there is room (the page has none)."""

    panels: Sequence[Panel]
    size: tuple[float, float]
    """Of the SVG, in inches; the page takes the width that it has."""
    title: str = ""
    beside: bool = False
    shared: Literal["", "x", "y"] = ""
    """The axis that is the same for all panels."""


def band(look: Look, frame: pd.DataFrame, *, geometric: bool = False) -> Line:
    """The mean over the columns (seeds) and the range from smallest to largest, at no more than `POINTS` of
    the rows (steps). `geometric`: the mean of the logarithms, as ratios need it."""
    rows = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), POINTS)).round().astype(int))
    values = frame.to_numpy()[rows]
    with np.errstate(divide="ignore"):  # a loss of zero has no logarithm: its mean is zero too
        mean = np.exp(_mean(np.log(values))) if geometric else _mean(values)
    ends = [end.reduce(values, axis=1).tolist() for end in (np.fmin, np.fmax) if values.shape[1] > 1]
    return Line(look, frame.index.to_numpy()[rows].tolist(), mean.tolist(), *ends)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row, without what is missing."""
    there = ~np.isnan(values)
    found: NDArray[np.float64] = np.where(there, values, 0).sum(axis=1) / there.sum(axis=1)
    return found


def spans_decades(values: Iterable[float], factor: float = 100.0) -> bool:
    """Whether values range over so much that only a logarithmic axis shows them; it has no place for those
    below 0."""
    every = [*values]
    positive = [value for value in every if value > 0]
    if not positive or any(value < 0 for value in every):
        return False
    return max(positive) > factor * min(positive)
