"""The few statistics that the report prints, each defined once."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rankbench.bench.records import Curve, RunRecord


class Spread(NamedTuple):
    """Mean, sample standard deviation (n - 1; None where n is 1) and count."""

    mean: float
    sd: float | None
    n: int


class Reached(NamedTuple):
    """When a curve came down to a level: optimizer steps, and seconds of training."""

    step: int
    seconds: float | None


def spread(values: Iterable[float]) -> Spread | None:
    """Mean, sd and count; None of nothing."""
    values = list(values)
    if not values:
        return None
    return Spread(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
    )


def window(length: int) -> int:
    """Width of the smoothing window: a tenth of the entries, at least one."""
    return max(1, round(length / 10))


def smooth(values: list[float]) -> NDArray[np.float64]:
    """Trailing mean over `window` entries; the first ones average what there is so far."""
    array = np.asarray(values, dtype=np.float64)
    width = window(len(array))
    if len(array) < width:
        return array
    head = np.cumsum(array[: width - 1]) / np.arange(1, width)
    # A window of its own for each entry: a running sum would carry early, large losses into late, small ones.
    return np.concatenate([head, np.lib.stride_tricks.sliding_window_view(array, width).mean(axis=1)])


def selection_score(record: RunRecord) -> float | None:
    """The best score on the selection split."""
    scores = [seen.selection for seen in record.observations if seen.selection is not None]
    best = min if record.metrics.scales[record.metrics.selection].lower_is_better else max
    return best(scores) if scores else None


def smooth_losses(runs: Mapping[int, RunRecord]) -> pd.DataFrame:
    """Smoothed task loss: one row a step, one column a seed."""
    curves = {seed: run.curve for seed, run in runs.items() if run.curve.loss}
    return by_step({seed: (curve.step, smooth(curve.loss)) for seed, curve in curves.items()})


Series: TypeAlias = tuple[Sequence[int], ArrayLike]
"""Steps, and a number at each of them."""


def by_step(columns: Mapping[int, Series]) -> pd.DataFrame:
    """One row a step, one column a seed."""
    found = {seed: np.asarray(values) for seed, (_, values) in columns.items()}
    alike = [*map(list, dict.fromkeys(tuple(steps) for steps, _ in columns.values()))]
    if len(alike) != 1:
        return pd.DataFrame({seed: pd.Series(values, [*columns[seed][0]]) for seed, values in found.items()})
    # Aligning what lies at the same steps takes pandas ten times as long.
    return pd.DataFrame(np.stack([*found.values()], axis=1), alike[0], [*found])


def final_losses(runs: Mapping[int, RunRecord]) -> dict[int, float]:
    """Seed -> mean task loss of the last tenth of the steps."""
    return {seed: float(smooth(run.curve.loss)[-1]) for seed, run in runs.items() if run.curve.loss}


def reach(curve: Curve, level: float) -> Reached | None:
    """The first step whose smoothed loss (a whole window of it) is at or below `level`."""
    start = window(len(curve.loss)) - 1
    below = np.flatnonzero(smooth(curve.loss)[start:] <= level)
    if not below.size:
        return None
    index = start + int(below[0])
    return Reached(curve.step[index], float(sum(curve.seconds[: index + 1])) if curve.seconds else None)


def losses(record: RunRecord) -> ArrayLike | None:
    """A run's smoothed losses, one a step, from the first step with a whole window behind it."""
    found = record.curve.loss
    return smooth(found)[window(len(found)) - 1 :] if found else None


def steps_to_loss(
    own: Mapping[int, ArrayLike], other: Mapping[int, ArrayLike]
) -> tuple[dict[int, float], dict[int, float]]:
    """Seed -> steps of each method, counted from the first window's end, until its loss is down to the higher
    of both final ones, on the seeds of both.

    The method that ends lower may be there early, the other is there at its end at the latest. So both have a
    number, and which of them is faster does not depend on whose final loss is asked for.
    """
    counts: tuple[dict[int, float], dict[int, float]] = {}, {}
    for seed in own.keys() & other.keys():
        curves = np.asarray(own[seed]), np.asarray(other[seed])
        level = max(curve[-1] for curve in curves)
        for steps, curve in zip(counts, curves, strict=True):
            steps[seed] = int(np.argmax(curve <= level)) + 1
    return counts
