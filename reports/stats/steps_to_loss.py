"""How many steps two methods need for one loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from rankbench.bench.records import RunRecord
from rankbench.reports.stats.summary import smooth, window


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
