"""Hyperparameter sweeps: what a budget of k trials is worth, and score against learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from bench.stats import Array, StatsError


class RatePoint(NamedTuple):
    """The trials at one learning rate."""

    rate: float
    mean: float
    sd: float | None
    """Sample standard deviation over seeds; None of one."""
    n: int


class RateCurve(NamedTuple):
    """Score against learning rate, in rising order of the rate."""

    points: list[RatePoint]
    best: float
    """The rate with the best mean; the smaller one of equals."""
    at_edge: bool
    """The best is the first or last rate: widen the grid."""


def expected_best(
    selection: ArrayLike, test: ArrayLike | None = None, *, lower_is_better: bool = False
) -> Array:
    """Expected score of the best of k trials, k = 1 … n: shape (n,).

    The mean over all subsets of k of the n trials, in closed form from the order statistics: unbiased
    for a new sweep of k trials (Tang et al. 2020, arXiv 2004.13705), which drawing the k with replacement
    is not. The best is picked by `selection` (n,); its score is read from `test` (n,), or from
    `selection` itself, which then flatters.
    """
    chosen_by = np.asarray(selection, dtype=np.float64)
    if chosen_by.ndim != 1 or not chosen_by.size or not np.isfinite(chosen_by).all():
        raise StatsError("expected best: give the finite scores of at least one trial")
    score = chosen_by if test is None else np.asarray(test, dtype=np.float64)
    if score.shape != chosen_by.shape:
        raise StatsError(f"{len(chosen_by)} selection scores, {len(score)} test scores: give one a trial")
    levels, level, ties = np.unique(
        -chosen_by if lower_is_better else chosen_by, return_inverse=True, return_counts=True
    )
    # Trials that selection cannot tell apart are picked from at random.
    averaged = np.bincount(level, weights=score, minlength=len(levels)) / ties
    ordered = averaged[np.sort(level)]
    trials = len(ordered)
    k, rank = np.arange(1, trials + 1)[:, None], np.arange(1, trials + 1)[None, :]
    # The trial of rank i is the best of C(i - 1, k - 1) of the C(n, k) subsets.
    usable = rank >= k
    log_weight = _log_choose(np.where(usable, rank - 1, k - 1), k - 1) - _log_choose(np.float64(trials), k)
    weighted: Array = np.where(usable, np.exp(log_weight), 0.0) @ ordered
    return weighted


def rate_curve(trials: Mapping[float, Sequence[float]], *, lower_is_better: bool = False) -> RateCurve:
    """Learning rate -> scores of its seeds (on the selection split), as a curve with its best."""
    if not trials or not all(len(scores) for scores in trials.values()):
        raise StatsError("score against learning rate: give at least one score for each rate")
    points = [
        RatePoint(
            rate,
            float(np.mean(scores)),
            float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            len(scores),
        )
        for rate, scores in sorted(trials.items())
    ]
    sign = 1 if lower_is_better else -1
    best = min(points, key=lambda point: sign * point.mean)
    return RateCurve(points, best.rate, best in (points[0], points[-1]))


def _log_choose(n: ArrayLike, k: ArrayLike) -> Array:
    n, k = np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64)
    chosen: Array = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return chosen
