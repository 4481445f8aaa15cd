"""How each method stands on a task: its mean, how sure that is, and whether it is shown to be better.

Methods are compared by their scores, or, of errors, by the logarithms: 1e-3 and 1e-8 are no tie beside 1, and
a beside b is to be the reciprocal of b beside a (`reports.stats.items.logarithm`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from rankbench.reports.frames import Group
from rankbench.reports.render.numbers import ends, number, plain, ranged, ratio, ratio_ends
from rankbench.reports.stats.decision import ALPHA, LEVEL, holm
from rankbench.reports.stats.evidence import Array, Evidence, Unjudged, evidence, gains
from rankbench.reports.stats.items import Scores, logarithm
from rankbench.reports.stats.sequential import Plan, judged


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
    plan: Plan = ()
    """Numbers of seeds after which gains are judged; empty where it was fixed."""

    def gains(self, method: str, other: str) -> Array:
        """Over the seeds of both, positive where `method` is better: (seeds,) or (seeds, items)."""
        return gains(self.scores[method], self.scores[other], lower_is_better=self.lower_is_better)

    def against(self, baseline: str | None) -> dict[str, Against]:
        """Every other method against the baseline, Holm-adjusted over them; none without its scores."""
        if baseline is None or baseline not in self.scores:
            return {}
        others = (label for label in self.scores if label != baseline)
        found = {label: judged(self.gains(label, baseline), self.plan) for label in others}
        p_values = {label: one.p_value() for label, one in found.items() if isinstance(one, Evidence)}
        adjusted = holm({label: float(p) for label, p in p_values.items()})
        return {label: Against(one, adjusted.get(label)) for label, one in found.items()}

    def text(self, gain: float) -> str:
        """A gain; of errors the ratio, below 1 where better."""
        return number(math.exp(-gain)) if self.is_ratio else plain(gain, self.percent, signed=True)

    def ranged(self, gain: float, low: float, high: float) -> str:
        """A gain with its interval."""
        if self.is_ratio:
            return ratio(math.exp(-gain), math.exp(-high), math.exp(-low))
        return ranged(gain, low, high, self.percent, signed=True)

    def judged(self, found: Evidence | Unjudged, gain: float, level: float = LEVEL) -> str:
        """A gain with what is known of it; the bare one where it cannot be judged."""
        if isinstance(found, Unjudged):
            return self.text(gain)
        low, high = found.interval(level)
        return self.ranged(float(found.estimate), float(low), float(high))

    def ends(self, low: float, high: float) -> str:
        """An interval of gains."""
        if self.is_ratio:
            return ratio_ends(math.exp(-high), math.exp(-low))
        return ends(low, high, self.percent, signed=True)

    def size(self, difference: float) -> str:
        """How far apart two scores are, whichever is the better one; shares ×100."""
        if self.is_ratio:
            # Of what is near 1, two digits of what it lacks or has beyond.
            decimals = 1 - math.floor(math.log10(difference)) if 0 < difference < 0.1 else 2
            return f"a factor of {math.exp(difference):.{max(3, 1 + min(decimals, 8))}g}"
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
    is_error = scale.lower_is_better and not scale.percent and scale.low is not None
    is_ratio = is_error and all(mean > 0 for mean in means)
    if is_ratio:
        scores = {
            label: {seed: logarithm(error) for seed, error in one.items()} for label, one in scores.items()
        }
    return Basis(scores, is_ratio, scale.percent, scale.lower_is_better, group.plan)


Beside = Literal["above", "below"]


@dataclass(frozen=True)
class Standing:
    """The main score of one method on one task, in the records' units (fractions, or errors)."""

    mean: float
    """Over seeds."""
    low: float | None
    """Ends of the 95 % interval of the mean: over new seeds, as if their number had been fixed, and over new
    test items where the predictions of all runs are at hand. None where the spread is unknown (of one seed,
    or all alike), and where the interval would be all that the metric can be."""
    high: float | None
    n: int
    """Seeds."""
    beside: Beside | None = None
    """Whether it is shown to be better or worse than the group's baseline, by paired tests, Holm-adjusted
    over the methods; None is the usual state: the data do not say."""


@dataclass(frozen=True)
class Told:
    """What the data of a task tell of its methods beside the baseline."""

    above: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    open: dict[str, float] = field(default_factory=dict)
    """Neither is shown: method -> how far it may be from the baseline to either side, of all methods at
    once with 95 %, in the unit of `Basis.size`."""
    unjudged: dict[str, str] = field(default_factory=dict)
    """Method -> why nothing can be said."""


def tell(gains: Mapping[str, Against]) -> Told:
    """Which methods are shown to be better or worse than the baseline, from what each gains over it."""
    told = Told()
    level = 1 - (1 - LEVEL) / max(1, sum(isinstance(one, Evidence) for one, _ in gains.values()))
    for label, (one, p) in gains.items():
        if isinstance(one, Unjudged) or p is None:
            told.unjudged[label] = str(one)
        elif p < ALPHA:
            # What a stage has shown stands, whichever way the mean of later seeds lies.
            (told.above if one.p_at_most() < one.p_at_least() else told.below).append(label)
        else:
            told.open[label] = max(abs(float(end)) for end in one.interval(level))
    return told


def standings(group: Group, told: Told) -> dict[str, Standing]:
    """Adapter -> its standing, in the group's order; adapters without a main score are left out."""
    beside: dict[str, Beside] = {**dict.fromkeys(told.above, "above"), **dict.fromkeys(told.below, "below")}
    found = {}
    for label, by_seed in group.scores.items():
        if by_seed:
            table = np.array(list(by_seed.values()))
            ends = _interval(evidence(table), group)
            found[label] = Standing(float(table.mean()), *ends, len(by_seed), beside.get(label))
    return found


def _interval(judged: Evidence | Unjudged, group: Group) -> tuple[float | None, float | None]:
    """Ends of the interval, cut where the score itself ends."""
    if isinstance(judged, Unjudged):
        return None, None
    low, high = (float(end) for end in judged.interval(LEVEL))
    least, most = group.scale.low, group.scale.high
    if least is not None and most is not None and low <= least and high >= most:
        return None, None
    return (low if least is None else max(low, least)), (high if most is None else min(high, most))
