"""Evidence that is looked at after every stage of seeds, without looking raising the error.

A claim that is judged after 3, 5, 8 … seeds and dropped once it is decided has several chances to be wrongly
decided. Lan and DeMets (1983, doi 10.1093/biomet/70.3.659) therefore spend the level over the stages: here
after a share of all seeds the same share of it, as few seeds are dear to judge by. The level of one stage is
what makes the chance to have rejected by then just that, for a normal process with the information of the
stages; it is applied to the p-values of t tests (Jennison and Turnbull 2000, section 11.5). Of few, skewed or
heavy-tailed differences the error is simulated by tests/sequential_error.py; docs/deciding.md has the tables.

`overall` turns the p-values of the stages into one: the smallest level at which one of them would have
rejected. It is compared, and corrected over several claims by Holm's rule, as any other p-value is (Maurer
and Bretz 2013, doi 10.1080/19466315.2013.807748). It never rises as stages come, so that what was decided
stays so, and stopping at any stage, for any reason, raises no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from rankbench.reports.stats.evidence import Array, Evidence, Floats, Unjudged, counted, evidence

Plan = tuple[int, ...]
"""Numbers of seeds after which there is a look, rising; the last is the most that may be run."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(160)
_FAR = 8.5
"""Standard deviations beyond which a sum of normal differences is not followed."""
_LEVELS = np.geomspace(1e-12, 0.5, 109)


def information(seeds: int) -> float:
    """What a stage has, of which the likeness of two stages' tests follows. Were the spread known, it would
    be `seeds`; t tests, which take it from the same seeds, are less alike, the more so the fewer these are.
    Found by simulation: plans of 2 to 40 seeds err in 5.3 to 5.8 % of the cases with `seeds`, with this in
    4.5 to 5.0 %."""
    return (seeds - 1) ** 4 / seeds**3 if seeds else 0.0


def _levels(alphas: Array, plan: Plan) -> Array:
    """One-sided levels of each stage, (alphas, stages), which together reject a true hypothesis with the
    probabilities `alphas`: the distribution of the paths that no stage has ended yet is followed from
    one to the next (Armitage, McPherson and Rowe 1969), for all of them at once."""
    nodes, paths = np.zeros((len(alphas), 1)), np.ones((len(alphas), 1))
    columns, before, gone = [], 0, np.zeros(len(alphas))
    for seeds in plan:
        due = alphas * seeds / plan[-1] - gone
        spread, size = np.sqrt(information(seeds) - information(before)), np.sqrt(information(seeds))
        bound = _bound(nodes, paths, spread, due)
        columns.append(ndtr(-bound / size))
        low = -_FAR * size
        half = (bound - low) / 2
        after = low + half[:, None] * (_NODES + 1)
        apart = (after[:, :, None] - nodes[:, None, :]) / spread
        density = np.exp(-(apart**2) / 2) / (spread * np.sqrt(2 * np.pi))
        paths = np.einsum("lab,lb->la", density, paths) * _WEIGHTS * half[:, None]
        nodes, before, gone = after, seeds, gone + due
    return np.stack(columns, axis=1)


def _bound(nodes: Array, paths: Array, spread: float, due: Array) -> Array:
    """The sums above which paths end with the probability `due`, by bisection."""
    low, high = nodes.min(axis=1), nodes.max(axis=1) + _FAR * spread
    for _ in range(60):
        middle = (low + high) / 2
        above = (ndtr((nodes - middle[:, None]) / spread) * paths).sum(axis=1)
        low, high = np.where(above > due, middle, low), np.where(above > due, high, middle)
    return (low + high) / 2


@cache
def level_of(alpha: float, plan: Plan, stage: int) -> float:
    """One-sided level of the stage at that place of the plan, of tests that reject with `alpha` over all."""
    return float(_levels(np.array([alpha]), plan)[0, stage])


@cache
def _table(plan: Plan) -> Array:
    return _levels(_LEVELS, plan)


def by_stage(p_values: ArrayLike, plan: Plan) -> Array:
    """The smallest level at which each stage would have rejected; 1 where that is above 0.5.

    `p_values`: one-sided, (…, stages seen so far). Returns the same shape.
    """
    logs = np.log(np.maximum(np.asarray(p_values, np.float64), 1e-300))
    table = np.log(_table(plan))
    found = np.ones_like(logs)
    for stage in range(logs.shape[-1]):
        found[..., stage] = np.interp(logs[..., stage], table[:, stage], np.log(_LEVELS), right=0.0)
    return np.exp(found)


def overall(p_values: ArrayLike, plan: Plan) -> Floats:
    """The smallest level at which one of the stages would have rejected; shapes as for `by_stage`."""
    levels: Floats = by_stage(p_values, plan).min(axis=-1, initial=1.0)
    return levels


@dataclass(frozen=True)
class Staged(Evidence):
    """What all stages so far say of a mean difference; as evidence it is that of the last one."""

    looks: tuple[Evidence | None, ...]
    """After each stage, of all seeds until then; None where their spread is unknown."""
    plan: Plan

    def p_at_most(self, bound: float = 0.0) -> Floats:
        """One-sided, of "the difference is `bound` or less": small where a stage showed it to be above."""
        return overall([float(one.p_at_most(bound)) if one else 1.0 for one in self.looks], self.plan)

    def p_at_least(self, bound: float = 0.0) -> Floats:
        """One-sided, of "the difference is `bound` or more": small where a stage showed it to be below."""
        return overall([float(one.p_at_least(bound)) if one else 1.0 for one in self.looks], self.plan)

    def p_value(self, null: float = 0.0) -> Floats:
        """Two-sided, of "the difference is `null`"."""
        return np.minimum(1.0, 2 * np.minimum(self.p_at_most(null), self.p_at_least(null)))

    def critical(self, level: float = 0.95) -> Floats:
        """Standard errors to the ends of the repeated interval (Jennison and Turnbull 2000, chapter 9): those
        of all stages hold the difference at once with the confidence `level`."""
        return super().critical(1 - 2 * level_of((1 - level) / 2, self.plan, len(self.looks) - 1))

    def until(self, seeds: int) -> Staged:
        """With the p-values that it had after so many seeds."""
        return replace(self, looks=self.looks[: sum(at <= seeds for at in self.plan)])


def judged(values: ArrayLike, plan: Sequence[int]) -> Evidence | Unjudged:
    """As `evidence` judges differences (seeds,) or (seeds, items), in the order of their seeds; after the
    stages of a plan where there is one.

    Each stage has the first so many of them: where a seed is missing, the next takes its place; those
    between two stages wait for the next one, and those beyond the plan do not count. Unjudged before the
    first stage.
    """
    table = np.asarray(values, np.float64)
    if not plan:
        return evidence(table)
    if len(table) < plan[0]:
        return Unjudged(f"{counted(len(table), 'seed')}: judged after {plan[0]}")
    seen = [evidence(table[:seeds]) for seeds in plan if seeds <= len(table)]
    last = seen[-1]
    if isinstance(last, Unjudged):
        return last
    looks = tuple(one if isinstance(one, Evidence) else None for one in seen)
    return Staged(
        last.estimate, last.seed_variance, last.item_variance, last.seeds, last.items, looks, tuple(plan)
    )
