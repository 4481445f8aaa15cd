"""What the methods of a task are compared by: scores, or, of errors, their logarithms.

Errors are compared as ratios, for 1e-3 and 1e-8 are no tie beside 1; and by the logarithms of these, so that
a beside b is the reciprocal of b beside a. An error that is a mean over items has the mean of
`log(mean) + item / mean - 1` for its logarithm: as of correlations (`reports.stats.items`), to first order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankbench.reports.frames import Group
from rankbench.reports.render.markdown import ends, number, plain, ranged
from rankbench.reports.stats.decision import holm
from rankbench.reports.stats.evidence import Array, Evidence, Unjudged, evidence, gains
from rankbench.reports.stats.items import Scores


class Against(NamedTuple):
    """A method against the baseline: its gain, and the p-value after Holm over the methods."""

    found: Evidence | Unjudged
    p: float | None
    """None where the gain cannot be judged; such a method does not count in Holm."""


@dataclass(frozen=True)
class Basis:
    """The scores of a task's methods as they are compared, and how a gain in them is told."""

    scores: Scores
    """By label and seed, (items,) or (); logarithms where `is_ratio`. Methods without a score are out."""
    is_ratio: bool
    percent: bool
    lower_is_better: bool

    def gains(self, method: str, other: str) -> Array:
        """Over the seeds of both, positive where `method` is better: (seeds,) or (seeds, items)."""
        return gains(self.scores[method], self.scores[other], lower_is_better=self.lower_is_better)

    def against(self, baseline: str | None) -> dict[str, Against]:
        """Every other method against the baseline, Holm-adjusted over them; none without its scores."""
        if baseline is None or baseline not in self.scores:
            return {}
        found = {label: evidence(self.gains(label, baseline)) for label in self.scores if label != baseline}
        p_values = {label: one.p_value() for label, one in found.items() if isinstance(one, Evidence)}
        adjusted = holm({label: float(p) for label, p in p_values.items()})
        return {label: Against(one, adjusted.get(label)) for label, one in found.items()}

    def text(self, gain: float) -> str:
        """A gain; of errors the ratio, below 1 where better."""
        return number(math.exp(-gain)) if self.is_ratio else plain(gain, self.percent, signed=True)

    def ranged(self, gain: float, low: float, high: float) -> str:
        """A gain with its interval."""
        if self.is_ratio:
            return ranged(math.exp(-gain), math.exp(-high), math.exp(-low), fraction=False)
        return ranged(gain, low, high, self.percent, signed=True)

    def ends(self, low: float, high: float) -> str:
        """An interval of gains."""
        if self.is_ratio:
            return ends(math.exp(-high), math.exp(-low), fraction=False)
        return ends(low, high, self.percent, signed=True)

    def size(self, difference: float) -> str:
        """How far apart two scores are, whichever is the better one; shares ×100."""
        if self.is_ratio:
            return f"a factor of {math.exp(difference):.3g}"
        return plain(difference, self.percent)

    def heading(self, metric: str, baseline: str) -> str:
        """Of a column of gains over the baseline."""
        if self.is_ratio:
            return f"{metric} ÷ {baseline}'s"
        return f"gain over {baseline}, {metric}{' ×100' if self.percent else ''}"


def basis(group: Group) -> Basis:
    """What the methods of a group are compared by. Raises RecordError for unreadable predictions."""
    scores: Scores = {label: by_seed for label, by_seed in group.scores.items() if by_seed}
    means = (float(np.mean(score)) for by_seed in scores.values() for score in by_seed.values())
    scale = group.scale
    is_ratio = scale.lower_is_better and not scale.percent and all(mean > 0 for mean in means)
    return Basis(_logarithms(scores) if is_ratio else scores, is_ratio, scale.percent, scale.lower_is_better)


def _logarithms(scores: Mapping[str, Mapping[int, NDArray[np.float64]]]) -> Scores:
    def logarithm(error: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = error.mean()
        return np.asarray(np.log(mean) + error / mean - 1)

    return {label: {seed: logarithm(error) for seed, error in one.items()} for label, one in scores.items()}
