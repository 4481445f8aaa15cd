"""Which methods of a board are tied: groups instead of ranks.

The best method leads the first group, which holds all that are not shown to be worse than it; the best of the
others leads the next one, and so on. Leaders are chosen by the data, so the test must hold for every pair at
once: by the studentised range of so many methods (Tukey 1949). The spread over seeds is pooled over the
methods, as three seeds tell little of one method's own; where a pair's own spread is larger, that counts.
Tukey's test takes all methods to spread alike, which they do not: at `LEVEL` no more than one board of twenty
is divided wrongly where spreads differ by a factor of four, and one of a hundred where they are alike
(tests/reports/test_board.py simulates it).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
from scipy.stats import studentized_range

from rankbench.reports.stats.evidence import Array, Evidence, evidence
from rankbench.reports.stats.standing import Basis

LEVEL = 0.005
"""Of equal methods that spread alike, boards with a second group."""


def tied(compared: Basis) -> dict[str, int]:
    """Method -> its group, 1 the best's, in the order of merit; methods that lack a seed that others have are
    left out, as are all where there are fewer than two common seeds or methods. Where seeds came in stages,
    by those of the first one, which all methods have whatever was found: the others went to what was open."""
    compared = _of_first_stage(compared) if compared.plan else compared
    seeds = max((len(by_seed) for by_seed in compared.scores.values()), default=0)
    whole = [label for label, by_seed in compared.scores.items() if len(by_seed) == seeds]
    alike = [label for label in whole if compared.scores[label].keys() == compared.scores[whole[0]].keys()]
    if seeds < 2 or len(alike) < 2:
        return {}
    means = np.array([[score.mean() for score in compared.scores[label].values()] for label in alike])
    pooled, freedom = _residual(means)
    sign = 1 if compared.lower_is_better else -1
    left = sorted(alike, key=lambda label: sign * means[alike.index(label)].mean())
    least = _critical(len(alike), freedom)
    groups: dict[str, int] = {}
    while left:
        leader, number = left[0], 1 + max(groups.values(), default=0)
        worse = [label for label in left[1:] if _range(compared, leader, label, pooled / seeds) > least]
        groups |= dict.fromkeys((label for label in left if label not in worse), number)
        left = worse
    order = sorted(alike, key=lambda label: sign * means[alike.index(label)].mean())
    return {label: groups[label] for label in order}


def _of_first_stage(compared: Basis) -> Basis:
    scores = {
        label: {seed: score for seed, score in by_seed.items() if seed < compared.plan[0]}
        for label, by_seed in compared.scores.items()
    }
    return replace(compared, scores=scores, plan=())


@cache
def _critical(methods: int, freedom: int) -> float:
    return float(studentized_range.ppf(1 - LEVEL, methods, freedom))


def _residual(means: Array) -> tuple[float, int]:
    """Variance of (methods, seeds) beside what a method and a seed have in common; degrees of freedom."""
    rest = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    freedom = (len(means) - 1) * (means.shape[1] - 1)
    return float((rest**2).sum() / freedom), freedom


def _range(compared: Basis, leader: str, label: str, variance: float) -> float:
    """The studentised difference of two methods, over new seeds and, where they are known, new items; 0 where
    it cannot be judged. `variance`: of a method's mean over the seeds, pooled."""
    found = evidence(compared.gains(leader, label))
    if not isinstance(found, Evidence):
        return 0.0
    own = float(found.seed_variance)
    apart = max(2 * variance, own) + float(found.item_variance)
    return math.sqrt(2) * abs(float(found.estimate)) / math.sqrt(apart)
