"""Several methods on one task: each against a baseline, and who is tied with the best."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from bench.stats import Evidence, Unjudged, evidence, gains

Key = TypeVar("Key")
Scores = Mapping[int, ArrayLike]
"""Seed -> score, or scores per item."""


class Against(NamedTuple):
    """A method against the baseline: its gain, and the p-value after Holm over the methods."""

    found: Evidence | Unjudged
    p: float | None
    """None where the gain cannot be judged; such a method does not count in Holm."""


class Tied(NamedTuple):
    """The best mean and the methods not shown to be worse than it."""

    best: str
    tied: list[str]
    """With the best, in the order given."""
    worse: dict[str, float]
    """Method -> adjusted p-value of its difference to the best."""
    unjudged: dict[str, str]
    """Method -> why it cannot be told from the best."""


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusted p-values (Holm 1979): reject where below alpha, and at most alpha of the families hold
    any false rejection."""
    # Not statsmodels' multipletests: it collects garbage at each call, which takes a thousand times longer.
    adjusted, least = {}, 0.0
    for rank, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[key]))
        adjusted[key] = least
    return {key: adjusted[key] for key in p_values}


def against_baseline(
    scores: Mapping[str, Scores], baseline: str, *, lower_is_better: bool = False
) -> dict[str, Against]:
    """Every other method against `baseline` on the seeds they share, gains positive where better."""
    found = {
        method: evidence(gains(own, scores[baseline], lower_is_better=lower_is_better))
        for method, own in scores.items()
        if method != baseline
    }
    adjusted = holm({name: float(one.p_value()) for name, one in found.items() if isinstance(one, Evidence)})
    return {method: Against(one, adjusted.get(method)) for method, one in found.items()}


def tied_with_best(
    scores: Mapping[str, Scores], *, lower_is_better: bool = False, alpha: float = 0.05
) -> Tied:
    """Which methods the data cannot tell from the one with the best mean.

    Holm over all pairs, not over the pairs with the best alone: the best is chosen by the same data,
    and its lead is the largest of all differences. A method equal to the best on every seed is tied.
    """
    pick = min if lower_is_better else max
    best = pick(
        scores, key=lambda method: float(np.mean([np.asarray(one).mean() for one in scores[method].values()]))
    )
    differences = {(a, b): gains(scores[a], scores[b]) for a, b in combinations(scores, 2)}
    found = {pair: evidence(difference) for pair, difference in differences.items()}
    adjusted = holm({pair: float(one.p_value()) for pair, one in found.items() if isinstance(one, Evidence)})
    tied: list[str] = []
    worse: dict[str, float] = {}
    unjudged: dict[str, str] = {}
    for method in scores:
        pair = (method, best) if (method, best) in found else (best, method)
        if method == best or (differences[pair].size and not differences[pair].any()):
            tied.append(method)
        elif isinstance(one := found[pair], Unjudged):
            unjudged[method] = one.reason
        elif (p := adjusted[pair]) < alpha:
            worse[method] = p
        else:
            tied.append(method)
    return Tied(best, tied, worse, unjudged)
