"""Tests that are looked at after every stage of seeds, without looking raising their error.

A claim that is judged after 3, 5, 8 … seeds and dropped once it is decided has several chances to be wrongly
decided. Lan and DeMets (1983, doi 10.1093/biomet/70.3.659) therefore spend the level over the stages: after a
share t of all seeds, `spent(t)` of it. The level of one stage is what makes the chance to have rejected by then
just that, for means of normal differences; it is applied to the p-values of t tests (Jennison and Turnbull 2000,
section 11.5), which have the spread from the same few seeds. What is left of the error for few, skewed or
heavy-tailed differences is simulated in tests/reports/test_sequential.py.

`overall` turns the p-values seen so far into one: the smallest level at which one of the stages would have
rejected. It is compared, and corrected over several claims by Holm's rule, as any other p-value is
(Maurer and Bretz 2013, doi 10.1080/19466315.2013.807748).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

STAGES = (3, 5, 8, 12, 20, 40)
"""Seeds after which a claim is judged: each about half as many again, to the last that can be paid."""

_GRID = 2001
_LEVELS = np.geomspace(1e-12, 0.5, 121)


def spent(share: float) -> float:
    """Of the level, after a share of all seeds. In proportion: few seeds are dear to judge by, as their t
    tests need large differences, and most claims that can be decided are decided early."""
    return share


@cache
def levels(alpha: float, stages: tuple[int, ...]) -> tuple[float, ...]:
    """One-sided levels of each stage, which together reject a true hypothesis with probability `alpha`."""
    found: list[float] = []
    grid, density, before = np.zeros(1), np.ones(1), 0
    gone = 0.0
    for seeds in stages:
        due = alpha * spent(seeds / stages[-1]) - gone
        spread = np.sqrt(seeds - before)
        bound = _bound(grid, density, spread, due)
        found.append(float(ndtr(-bound / np.sqrt(seeds))))
        low = -9 * np.sqrt(seeds)
        fine, step = np.linspace(low, bound, _GRID, retstep=True)
        weights = np.full(_GRID, step)
        weights[[0, -1]] /= 2
        passed = np.exp(-0.5 * ((fine[:, None] - grid[None, :]) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
        grid, density, before = fine, (passed @ density) * weights, seeds
        gone += due
    return tuple(found)


def _bound(grid: np.ndarray, density: np.ndarray, spread: float, due: float) -> float:
    """The sum above which a path ends with probability `due`, by bisection."""
    low, high = grid[0], grid[-1] + 40 * spread
    for _ in range(80):
        middle = (low + high) / 2
        above = float(ndtr((grid - middle) / spread) @ density)
        low, high = (middle, high) if above > due else (low, middle)
    return (low + high) / 2


def overall(p_values: Mapping[int, float], stages: tuple[int, ...] = STAGES) -> float:
    """The level at which one of the stages (seeds -> one-sided p) would just have rejected; at most 1."""
    table = _table(stages)
    best = 1.0
    for seeds, p in p_values.items():
        column = table[:, stages.index(seeds)]
        if p <= column[-1]:
            best = min(best, float(np.exp(np.interp(np.log(max(p, 1e-300)), np.log(column), np.log(_LEVELS)))))
    return best


@cache
def _table(stages: tuple[int, ...]) -> np.ndarray:
    return np.array([levels(float(alpha), stages) for alpha in _LEVELS])
