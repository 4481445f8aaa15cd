"""How each method stands on a task: its mean, how sure that is, and whether it ties with the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.stats import Evidence, evidence
from bench.stats_methods import tied_with_best
from reports.items import Scores
from reports.load import Group

LEVEL = 0.95
"""Of the intervals of scores and of gains."""
ALPHA = 0.05
"""Above it, Holm-adjusted, a difference is none that the data show."""


@dataclass(frozen=True)
class Standing:
    """The main score of one method on one task, in the records' units (fractions, or errors)."""

    mean: float
    """Over seeds."""
    low: float | None
    """Ends of the 95 % interval of the mean: over new seeds, and over new test items where the
    predictions of all runs are at hand. None where the spread is unknown: of one seed, or all alike."""
    high: float | None
    n: int
    """Seeds."""
    tied: bool
    """Not shown to be worse than the best mean of the task, Holm-adjusted over all pairs of methods.
    False for a method that shares fewer than two seeds with the best."""


def standings(group: Group) -> dict[str, Standing]:
    """Adapter -> its standing, in the group's order; adapters without a main score are left out."""
    scores = {adapter: by_seed for adapter, by_seed in group.scores.items() if by_seed}
    tied = tied_methods(group)
    found = {}
    for adapter, by_seed in scores.items():
        table = np.array(list(by_seed.values()))
        judged = evidence(table)
        low, high = _interval(judged, group) if isinstance(judged, Evidence) else (None, None)
        found[adapter] = Standing(float(table.mean()), low, high, len(by_seed), adapter in tied)
    return found


def tied_methods(group: Group) -> set[str]:
    """Adapters not shown to be worse than the one with the best mean, among those of two seeds or more."""
    scores = {adapter: by_seed for adapter, by_seed in group.scores.items() if len(by_seed) > 1}
    if not scores:
        return set()
    if group.lower_is_better:
        scores = _ratios(scores)
    found = tied_with_best(scores, lower_is_better=group.lower_is_better, alpha=ALPHA)
    alike = {name for name in found.unjudged if len(scores[name].keys() & scores[found.best].keys()) > 1}
    return {*found.tied, *alike}


def _ratios(scores: Scores) -> Scores:
    """Errors by their logarithms, where there are any: 1e-3 and 1e-8 are no tie beside 1."""
    means = {name: {seed: float(error.mean()) for seed, error in one.items()} for name, one in scores.items()}
    if any(error <= 0 for one in means.values() for error in one.values()):
        return scores
    return {name: {seed: np.log(error) for seed, error in one.items()} for name, one in means.items()}


def _interval(judged: Evidence, group: Group) -> tuple[float, float]:
    """Ends of the interval, cut where the score itself ends."""
    low, high = (float(end) for end in judged.interval(LEVEL))
    least, most = group.scale.low, group.scale.high
    return (low if least is None else max(low, least)), (high if most is None else min(high, most))
