"""How large a paired difference is, how sure of it one can be, and what that allows to say.

The same seeds and the same test items serve both methods, so the difference of seed s on item i is
`mean + seed effect + item effect + residual`, and its grand mean has the variance

    (seed variance) / S + (item variance) / I + (residual variance) / (S I).

The spread of the S seed means estimates the first and third terms with S - 1 degrees of freedom; the
second is what the spread of the I item means adds to the residual (Clark 1973, doi
10.1016/S0022-5371(73)80014-3). The tail probability is the average of the two t tails, each weighted with
its share of the variance. So 95 % intervals cover 94 to 97 % with 3 or more seeds, with 2 at least 92 %, at
any mixture of the effects that tests/reports/test_stats.py simulates. Without items it is the paired t-test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import cython_special as scalar
from scipy.special import ndtri, stdtr, stdtrit

Array: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = np.float64 | NDArray[np.float64]
"""One number, or one per comparison of a batch."""

ROUNDING = 1e-12
"""Relative: means of equal differences differ by less."""


class StatsError(ValueError):
    """The scores given cannot be compared."""


@dataclass(frozen=True)
class Unjudged:
    """No figure can be given, and why: in place of a NaN."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Evidence:
    """A mean difference over `seeds` × `items` (1: items unknown), with the two parts of its variance."""

    estimate: Floats
    seed_variance: Floats
    """Of the grand mean, through the choice of seeds; S - 1 degrees of freedom."""
    item_variance: Floats
    """Of the grand mean, through the choice of items; I - 1 degrees of freedom."""
    seeds: int
    items: int

    @property
    def standard_error(self) -> Floats:
        """Of the estimate."""
        error: Floats = np.sqrt(self.seed_variance + self.item_variance)
        return error

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Two-sided confidence interval."""
        reach = self.critical(level) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def critical(self, level: float = 0.95) -> Floats:
        """Standard errors from the estimate to either end of the interval."""
        tail, shares = (1 - level) / 2, np.asarray(self._seed_share())
        seeds, items = map(float, self._degrees)
        ends = [_critical(tail, share, seeds, items) for share in shares.ravel().tolist()]
        found: Floats = np.reshape(ends, shares.shape)[()]
        return found

    def p_value(self, null: float = 0.0) -> Floats:
        """Two-sided, of "the difference is `null`"."""
        p: Floats = 2 * self._tail(np.abs(self.estimate - null) / self.standard_error, self._seed_share())
        return p

    def p_at_most(self, bound: float = 0.0) -> Floats:
        """One-sided, of "the difference is `bound` or less": small where it is surely above."""
        return self._tail((self.estimate - bound) / self.standard_error, self._seed_share())

    def p_at_least(self, bound: float = 0.0) -> Floats:
        """One-sided, of "the difference is `bound` or more": small where it is surely below."""
        return self._tail((bound - self.estimate) / self.standard_error, self._seed_share())

    def _seed_share(self) -> Floats:
        return self.seed_variance / (self.seed_variance + self.item_variance)

    @property
    def _degrees(self) -> tuple[int, int]:
        return self.seeds - 1, max(self.items - 1, 1)

    def _tail(self, t: Floats, share: Floats) -> Floats:
        by_seeds, by_items = self._degrees
        tail: Floats = share * stdtr(by_seeds, -t) + (1 - share) * stdtr(by_items, -t)
        return tail


def _critical(tail: float, share: float, by_seeds: float, by_items: float) -> float:
    """Where the tail probability is `tail`, by bisection: NumPy and SciPy's root finder take far longer over
    one number than over the arithmetic."""
    low, high = 0.0, 2 * float(stdtrit(min(by_seeds, by_items), 1 - tail))
    for _ in range(45):
        middle = (low + high) / 2
        beyond = share * scalar.stdtr(by_seeds, -middle) + (1 - share) * scalar.stdtr(by_items, -middle)
        if beyond > tail:
            low = middle
        else:
            high = middle
    return high


def counted(number: int, noun: str) -> str:
    """ "no seed", "one seed", "3 seeds"."""
    return f"{number} {noun}s" if number > 1 else f"{'one' if number else 'no'} {noun}"


class Bootstrap(NamedTuple):
    """Ends of the interval of a mean difference."""

    low: float
    high: float


def gains(
    values: Mapping[int, ArrayLike], baseline: Mapping[int, ArrayLike], *, lower_is_better: bool = False
) -> Array:
    """What `values` gain over `baseline`, positive where better.

    Each maps a seed to its score or to its scores per item, in the same order of items everywhere.
    Returns (seeds,) or (seeds, items) over the seeds that both have, in their order.
    Raises StatsError where the numbers of items differ.
    """
    shared = sorted(values.keys() & baseline.keys())
    shapes = {np.shape(scores[seed]) for scores in (values, baseline) for seed in shared}
    if len(shapes) > 1:
        counts = " and ".join(str(shape[0] if shape else "no") for shape in sorted(shapes))
        raise StatsError(f"{counts} items: paired scores need the same items for every seed of both methods")
    own, other = (np.array([scores[seed] for seed in shared], np.float64) for scores in (values, baseline))
    if not own.size:
        return own
    # To a grid of a few roundings of the scores: 0.81 - 0.80 and 0.61 - 0.60 are one difference, not two.
    size = max(np.abs(own).max(), np.abs(other).max())
    step = 2.0 ** np.ceil(np.log2(4 * np.spacing(size)))
    sign = -1.0 if lower_is_better else 1.0
    rounded: Array = sign * np.round((own - other) / step) * step
    return rounded + 0.0


def evidence(differences: ArrayLike) -> Evidence | Unjudged:
    """Judge the mean of paired differences of shape (seeds,) or (seeds, items).

    Over (seeds,) the test items count as fixed: the interval is about new seeds on the same items.
    Unjudged with fewer than two seeds, with a difference that is not finite, or where the seeds' mean
    differences do not vary at all.
    """
    table = np.asarray(differences, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2:
        raise StatsError(f"differences have {table.ndim} axes; give (seeds,) or (seeds, items)")
    seeds = len(table)
    if seeds < 2 or table.shape[1] == 0:
        return Unjudged(
            f"{counted(seeds, 'seed')} to compare by; a spread needs two" if seeds < 2 else "no items"
        )
    if not np.isfinite(table).all():
        return Unjudged("a difference is not a finite number")
    of_seeds = table.mean(axis=1)
    if np.ptp(of_seeds) <= ROUNDING * np.abs(of_seeds).max():
        return Unjudged(f"the difference is the same in all {seeds} seeds, so its spread is unknown")
    return components(table)


def components(table: Array) -> Evidence:
    """The same for a batch of tables (…, seeds, items) at once, unchecked; at least two seeds."""
    seeds, items = table.shape[-2:]
    of_seeds, of_items = table.mean(axis=-1), table.mean(axis=-2)
    estimate = of_seeds.mean(axis=-1)
    seed_variance = of_seeds.var(axis=-1, ddof=1) / seeds
    item_variance = np.zeros_like(seed_variance)
    if items > 1:
        residual = table - of_seeds[..., :, None] - of_items[..., None, :] + estimate[..., None, None]
        noise = (residual**2).mean(axis=(-2, -1)) / ((seeds - 1) * (items - 1))
        # The seeds' means hold the residual already: only what the items add to it counts here.
        item_variance = np.maximum(of_items.var(axis=-1, ddof=1) / items - noise, 0.0)
    return Evidence(estimate, seed_variance, item_variance, seeds, items)


def hierarchical_bootstraps(
    differences: Sequence[ArrayLike], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> list[Bootstrap | Unjudged]:
    """Of each comparison, resample the seeds, then the items (one draw of items for all seeds and both
    methods); comparisons of one shape share their draws.

    Effects are resampled, at the size of their estimated variances: the resampled table itself would
    count the residual three times (Owen 2007, 10.1214/07-AOAS122). Its percentiles are widened by the
    ratio of `Evidence.critical` to the normal quantile, as few seeds need (Hesterberg 2015,
    10.1080/00031305.2015.1089789). Use it to see a skew; `evidence` is the judge.
    """
    found = {place: evidence(table) for place, table in enumerate(differences)}
    alike: dict[tuple[int, int, bool, bool], dict[int, Evidence]] = defaultdict(dict)
    for place, one in found.items():
        if isinstance(one, Evidence):
            varies = bool(one.seed_variance > 0), bool(one.item_variance > 0)
            alike[one.seeds, one.items, *varies][place] = one
    drawn: dict[int, Bootstrap] = {}
    for (seeds, items, *_), those in alike.items():
        tables = np.array([np.reshape(differences[place], (seeds, items)) for place in those], np.float64)
        shifts = _resampled(components(tables), tables, draws, np.random.default_rng(seed))
        for (place, one), shift in zip(those.items(), shifts, strict=True):
            drawn[place] = _ends(one, shift, level)
    return [one if isinstance(one, Unjudged) else drawn[place] for place, one in found.items()]


def _ends(found: Evidence, shift: Array, level: float) -> Bootstrap:
    widened = shift * (found.critical(level) / ndtri((1 + level) / 2))
    low, high = found.estimate + np.quantile(widened, [(1 - level) / 2, (1 + level) / 2])
    return Bootstrap(float(low), float(high))


def _resampled(found: Evidence, tables: Array, draws: int, generator: np.random.Generator) -> Array:
    """How far each draw moves each table's mean, (tables, draws)."""
    shift = np.zeros((len(tables), draws))
    for axis, variance in ((2, found.seed_variance), (1, found.item_variance)):
        if np.all(variance > 0):
            effects = tables.mean(axis=axis) - np.asarray(found.estimate)[:, None]
            size = np.sqrt(variance / (effects**2).mean(axis=1) * effects.shape[1])
            shift += size[:, None] * _resampled_means(effects, draws, generator)
    return shift


def _resampled_means(values: Array, draws: int, generator: np.random.Generator) -> Array:
    """Means of `draws` resamples of each row, a block of them at a time to bound the memory."""
    count = values.shape[1]
    block = max(1, 4_000_000 // count)
    means = []
    for start in range(0, draws, block):
        size = min(block, draws - start)
        drawn = generator.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means.append(values @ times.T / count)
    return np.concatenate(means, axis=1)
