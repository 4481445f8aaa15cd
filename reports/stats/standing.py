"""How each method stands on a task: its mean, how sure that is, and whether it is shown to be better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rankbench.reports.frames import Group
from rankbench.reports.stats.basis import Against
from rankbench.reports.stats.decision import ALPHA, LEVEL
from rankbench.reports.stats.evidence import Evidence, Unjudged, evidence

Beside = Literal["above", "below"]


@dataclass(frozen=True)
class Standing:
    """The main score of one method on one task, in the records' units (fractions, or errors)."""

    mean: float
    """Over seeds."""
    low: float | None
    """Ends of the 95 % interval of the mean: over new seeds, and over new test items where the
    predictions of all runs are at hand. None where the spread is unknown (of one seed, or all alike), and
    where the interval would be all that the metric can be."""
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
            (told.above if one.estimate > 0 else told.below).append(label)
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
