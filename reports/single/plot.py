"""A loss curve in plain characters, for a terminal of any encoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rankbench.reports.render.numbers import number

DECADES = 2.0
"""A curve that spans more of them is drawn by its logarithms."""


def plot(steps: Sequence[int], values: Sequence[float], width: int, height: int = 12) -> str:
    """A mark a column: the mean of the values (at least one) that fall into it; `width` columns and `height`
    lines at most, beside the axes. The ends of both axes are named."""
    columns = np.array([part.mean() for part in np.array_split(values, min(width, len(values)))])
    high, low = columns.max(), columns.min()
    by_logarithm = low > 0 and np.log10(high) - np.log10(low) > DECADES
    shown = np.log(columns) if by_logarithm else columns
    size = shown.max() - shown.min()
    # A flat curve is one line of marks.
    place = np.rint((shown.max() - shown) / size * (height - 1)) if size else np.zeros(len(shown))
    lines = ["".join("*" if at == line else " " for at in place) for line in range(int(place.max()) + 1)]
    names = [number(float(high)), *[""] * (len(lines) - 2), *([number(float(low))] if size else [])]
    margin = max(map(len, names))
    drawn = [f"{name:>{margin}} |{line}".rstrip() for name, line in zip(names, lines, strict=True)]
    axis = f"{' ' * margin} +{'-' * len(columns)}"
    first, last = str(steps[0]), str(steps[-1])
    title = "step (logarithms of the loss)" if by_logarithm else "step"
    room = len(columns) - len(first) - len(last)
    between = f"{title if len(title) < room - 1 else '':^{max(1, room)}}"
    return "\n".join([*drawn, axis, f"{' ' * margin}  {first}{between}{last}"])
