"""Hyperparameter sweeps: what a budget of k trials is worth, and score against learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from rankbench.reports.stats.evidence import Array, StatsError


class RatePoint(NamedTuple):
    """The score at one learning rate."""

    rate: float
    mean: float
    """Over the seeds."""


class RateCurve(NamedTuple):
    """Score against learning rate, in rising order of the rate."""

    points: list[RatePoint]
    best: float
    """The rate with the best mean; the smaller one of equals."""
    at_edge: bool
    """The best is the first or last rate: widen the grid."""


def expected_best(scores: ArrayLike, *, lower_is_better: bool = False) -> Array:
    """Expected score of the best of k trials, k = 1 … n, from the scores (n,) of all: shape (n,).

    The mean over all subsets of k of the n trials, in closed form from the order statistics: unbiased
    for a new sweep of k trials (Tang et al. 2020, arXiv 2004.13705), which drawing the k with replacement
    is not. Raises StatsError without trials, or with a score that is not finite.
    """
    given = np.asarray(scores, dtype=np.float64)
    if given.ndim != 1 or not given.size or not np.isfinite(given).all():
        raise StatsError("expected best: give the finite scores of at least one trial")
    ordered = np.sort(given)[::-1] if lower_is_better else np.sort(given)
    trials = len(ordered)
    k, rank = np.arange(1, trials + 1)[:, None], np.arange(1, trials + 1)[None, :]
    # The trial of rank i is the best of C(i - 1, k - 1) of the C(n, k) subsets.
    usable = rank >= k
    log_weight = _log_choose(np.where(usable, rank - 1, k - 1), k - 1) - _log_choose(np.float64(trials), k)
    weighted: Array = np.where(usable, np.exp(log_weight), 0.0) @ ordered
    return weighted


def rate_curve(means: Mapping[float, float], *, lower_is_better: bool = False) -> RateCurve:
    """Learning rate -> mean score over its seeds (on the selection split), as a curve with its best.

    Raises StatsError where there is none.
    """
    if not means:
        raise StatsError("score against learning rate: give the score of at least one rate")
    points = [RatePoint(rate, mean) for rate, mean in sorted(means.items())]
    sign = 1 if lower_is_better else -1
    best = min(points, key=lambda point: sign * point.mean)
    return RateCurve(points, best.rate, best in (points[0], points[-1]))


def _log_choose(n: ArrayLike, k: ArrayLike) -> Array:
    n, k = np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64)
    chosen: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return chosen
