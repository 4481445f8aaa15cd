"""Whether a run was long enough: has its training loss levelled off?

What the last tenth of the curve falls by, as a share of the whole fall. The losses are those of minibatches,
so both falls are differences of means: of the last tenth from the tenth before it, and of the last tenth from
the first fiftieth. Where a curve bends as it falls, the first difference is a little more than the fall in
the last tenth, and the second a little less than the whole: the share errs to the side of "not yet".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rankbench.reports.stats.evidence import Unjudged
from rankbench.reports.stats.summary import window

FLAT = 0.05
"""Of the whole fall: a curve whose last tenth falls by less has flattened."""
LEAST = 100
"""Steps: of fewer, a tenth is a handful of batches."""
SURE = 2.0
"""Standard errors that tell a share from that level, and a fall from none."""


class Flattened(NamedTuple):
    """What is known of a curve's end."""

    share: float
    """Of the whole fall, in the last tenth."""
    is_flat: bool
    noise: float
    """Standard error of the share, by the scatter of the batches' losses."""

    @property
    def is_sure(self) -> bool:
        """Whether the share is farther from the level than the scatter explains."""
        return abs(self.share - FLAT) > SURE * self.noise


def flattened(losses: ArrayLike) -> Flattened | Unjudged:
    """Of losses step by step, (steps,), or of several seeds', (seeds, steps), of their mean.

    Unjudged with fewer than 100 steps, and where the loss falls by no more than its noise. The scatter is
    that of neighbouring steps' differences, which a trend hardly enters (von Neumann 1941,
    10.1214/aoms/1177731677).
    """
    mean = np.atleast_2d(np.asarray(losses, np.float64)).mean(axis=0)
    if len(mean) < LEAST:
        return Unjudged(f"{len(mean)} steps, of {LEAST} that it takes to tell")
    tenth, start = window(len(mean)), len(mean) // 50
    last = mean[-tenth:].mean()
    whole, late = float(mean[:start].mean() - last), float(mean[-2 * tenth : -tenth].mean() - last)
    scatter = math.sqrt((np.diff(mean[-2 * tenth :]) ** 2).mean() / 2)
    noise_of_whole = scatter * math.sqrt(1 / start + 1 / tenth)
    if whole <= SURE * noise_of_whole:
        return Unjudged("the loss does not fall")
    share = late / whole
    noise = math.hypot(scatter * math.sqrt(2 / tenth), share * noise_of_whole) / whole
    return Flattened(share, share < FLAT, noise)
