"""Hyperparameter sweeps: what a budget of k trials is worth, and score against learning rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from rankbench.bench.records import FailureRecord, Scale
from rankbench.reports.frames import Group, Suite
from rankbench.reports.frames.contender import RATE
from rankbench.reports.stats.evidence import Array, StatsError
from rankbench.reports.stats.summary import selection_score


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


@dataclass(frozen=True)
class Sweep:
    """One method's trials on one task."""

    curve: RateCurve
    """Selection score against learning rate, of the best other settings at each rate."""
    best: list[float]
    """Expected selection score of the best of 1, 2, … trials."""
    chosen: str
    """Label of the trial with the best selection score."""


def chosen_trials(suite: Suite) -> Suite:
    """The suite with each swept method's chosen trial alone: the others are there to be chosen from."""
    return replace(suite, groups=[_chosen(group, suite.failures) for group in suite.groups])


def _chosen(group: Group, failures: Sequence[FailureRecord]) -> Group:
    chosen = {method: sweep.chosen for method, sweep in sweeps(group, failures).items()}
    kept = {
        label: runs
        for label, runs in group.runs.items()
        if chosen.get(group.contenders[label].method, label) == label
    }
    return replace(group, runs=kept)


def sweeps(group: Group, failures: Sequence[FailureRecord]) -> dict[str, Sweep]:
    """Method -> its sweep, for the methods with trials at two learning rates or more.

    A trial of which a seed failed is left out, as one is of which all did: by the seeds that are left, a rate
    that mostly diverges may be the best. The others are compared by the seeds that all of a method's have.
    """
    of_task = [one for one in failures if one.task == group.task]
    failed = {one.adapter for one in of_task if one.seed not in group.runs.get(one.adapter, ())}
    trials: dict[str, dict[str, dict[int, float]]] = defaultdict(dict)
    rates: dict[str, float] = {}
    for label, runs in group.runs.items():
        found = {seed: selection_score(run) for seed, run in runs.items()}
        scores = {seed: score for seed, score in found.items() if score is not None}
        one = group.contenders[label]
        if one.is_swept and scores:
            trials[one.method][label] = scores
            rates[label] = float(one.point[RATE])
    return {
        method: _sweep(_means(whole), rates, selected_by(group).lower_is_better)
        for method, scores in trials.items()
        if len({rates[label] for label in scores}) > 1
        and (whole := {label: found for label, found in scores.items() if label not in failed})
    }


def _means(scores: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Of each trial over the seeds that all have; over its own where there is none."""
    common = set.intersection(*({*by_seed} for by_seed in scores.values()))
    return {
        label: float(np.mean([score for seed, score in by_seed.items() if seed in (common or by_seed)]))
        for label, by_seed in scores.items()
    }


def selected_by(group: Group) -> Scale:
    """That of the metric which models are selected by."""
    metrics = group.record.metrics
    return metrics.scales[metrics.selection]


def _sweep(trials: Mapping[str, float], rates: Mapping[str, float], lower: bool) -> Sweep:
    pick = min if lower else max
    by_rate: dict[float, list[float]] = defaultdict(list)
    for label, score in trials.items():
        by_rate[rates[label]].append(score)
    curve = rate_curve({rate: pick(scores) for rate, scores in by_rate.items()}, lower_is_better=lower)
    best = expected_best(list(trials.values()), lower_is_better=lower)
    return Sweep(curve, best.tolist(), pick(trials, key=lambda label: trials[label]))


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
