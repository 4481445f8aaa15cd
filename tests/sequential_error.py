"""How often claims are decided wrongly, and after how many seeds: `python -m tests.sequential_error`.

Simulated suites are judged after each of their stages by the functions that the reports judge by. The
command writes its tables into docs/deciding.md; tests/reports/test_sequential.py holds them to their limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from rankbench.bench.suite.staged import STAGES
from rankbench.reports.claims.power import Asked, is_futile
from rankbench.reports.stats.decision import ALPHA, Range
from rankbench.reports.stats.evidence import components
from rankbench.reports.stats.sequential import Plan, Staged, by_stage
from rankbench.reports.stats.sequential import judged as evidence_of

Array: TypeAlias = NDArray[np.float64]
Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, ...]], Array]

PAGE = Path(__file__).parents[1] / "docs" / "deciding.md"
BEGIN, END = "<!-- tables of python -m tests.sequential_error -->", "<!-- end of tables -->"
ROUNDS = 480_000
"""Of one row; of several so many times fewer, and of items a tenth."""
AT_ONCE = 2_000_000
"""Differences that are drawn at a time."""
ROWS = (1, 4, 12)
FIXED = ((3, 1), (3, 12), (40, 1))
"""Numbers of seeds that are fixed beforehand, and rows, to set beside them."""
MARGIN = 1.0
"""Of which the error of EQUIVALENT is simulated, in standard deviations of a difference, as all are."""
MARGINS = (0.5, 1.0, 2.0)
GAINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Of mean 0 and variance 1, as all are."""
    return generator.standard_normal(shape)


def heavy(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t with three degrees of freedom: now and then a seed is far off."""
    return generator.standard_t(3, shape) / np.sqrt(3)


def skewed(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Exponential: most seeds are a little worse than the mean, a few much better."""
    return generator.exponential(size=shape) - 1


def constant(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A baseline that makes the difference's distribution the method's."""
    return np.zeros(shape)


@dataclass(frozen=True)
class Suite:
    """What is simulated: methods beside one baseline, whose runs all pairs share."""

    draw: Draw
    """Of a method's value, or of its parts."""
    baseline: Draw
    rows: int = 1
    """Methods, each of which is a row of the claim."""
    gain: float = 0.0
    """Of each method over the baseline, in standard deviations of the difference over seeds."""
    items: int = 1
    parts: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """Of the variance of a difference on one item with one seed: seeds', items', and what is left."""
    plan: Plan = STAGES

    def differences(self, generator: np.random.Generator, rounds: int) -> Array:
        """(rounds, rows, seeds, items)."""
        draws = [self.draw] * self.rows + [self.baseline]

        def part(*shape: int) -> Array:
            each = [draw(generator, (rounds, *shape)) for draw in draws]
            return np.stack(each[:-1], axis=1) - each[-1][:, None]

        seeds, sizes = self.plan[-1], np.sqrt(self.parts)
        found = sizes[0] * part(seeds, 1)
        if self.items > 1:
            found = found + sizes[1] * part(1, self.items) + sizes[2] * part(seeds, self.items)
        return found / (1 if self.baseline is constant else np.sqrt(2)) + self.gain


@dataclass(frozen=True)
class Judged:
    """p-values as they stood after each stage, Holm's factor not counted: (stages, rounds, rows)."""

    above: Array
    """Of "the difference is at most 0"."""
    below: Array
    """Of "it is at least 0"."""
    alike: Array
    """Of "it is beyond the margin"."""


def judged(suite: Suite, *, margin: float = 1.0, rounds: int = ROUNDS, seed: int = 0) -> Judged:
    """Of rounds that are drawn anew, each a whole suite at all its stages."""
    generator, found = np.random.default_rng(seed), []
    size = max(1, AT_ONCE // (suite.rows * suite.plan[-1] * suite.items))
    for start in range(0, rounds, size):
        table = suite.differences(generator, min(size, rounds - start))
        looks = [components(table[..., :seeds, :]) for seeds in suite.plan]
        above, low = (_stood([one.p_at_most(at) for one in looks], suite.plan) for at in (0.0, -margin))
        below, high = (_stood([one.p_at_least(at) for one in looks], suite.plan) for at in (0.0, margin))
        found.append((above, below, np.maximum(low, high)))
    return Judged(*(np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))


def _stood(p_values: Sequence[Array], plan: Plan) -> Array:
    levels = by_stage(np.stack(p_values, axis=-1), plan)
    return np.moveaxis(np.minimum.accumulate(levels, axis=-1), -1, 0)


def ever(p: Array) -> float:
    """Share of the rounds in which Holm's rule rejects any row at any stage: its first step decides that."""
    return float((p[-1].min(axis=-1) * p.shape[-1] < ALPHA).mean())


def seeds_until(suite: Suite, *p: Array) -> float:
    """Mean number of seeds until one of these p-values of a suite of one row decides, or the last stage."""
    decided = np.any([one[..., 0] < ALPHA for one in p], axis=0)
    first = np.where(decided.any(axis=0), decided.argmax(axis=0), len(suite.plan) - 1)
    return float(np.array(suite.plan)[first].mean())


KINDS = {
    "normal": Suite(normal, normal),
    "t with 3 degrees of freedom": Suite(heavy, heavy),
    "exponential, methods alike": Suite(skewed, skewed),
    "method exponential, baseline normal": Suite(skewed, normal),
    "difference itself exponential": Suite(skewed, constant),
    "50 items, mostly the seeds' variance": Suite(normal, normal, items=50, parts=(0.6, 2.0, 8.0)),
    "50 items, mostly the items' variance": Suite(normal, normal, items=50, parts=(0.05, 8.0, 4.0)),
}
"""Under which nothing is to be found: a difference of 0, or, of equivalence, of the margin."""


def errors(kind: Suite, rows: int, rounds: int = ROUNDS) -> tuple[float, float]:
    """Of any row being REPRODUCED, or NOT REPRODUCED, at any stage, where no method differs."""
    found = judged(replace(kind, rows=rows), rounds=fewer(kind, rounds))
    return ever(found.above), ever(found.below)


def error_of_equivalence(kind: Suite, rows: int, margin: float, rounds: int = ROUNDS) -> float:
    """Of any row being EQUIVALENT, where all differ by just the margin, whichever side is worse."""
    sides = (replace(kind, rows=rows, gain=side * margin) for side in (-1, 1))
    count = fewer(kind, rounds)
    return max(ever(judged(side, margin=margin, rounds=count, seed=1).alike) for side in sides)


def fewer(kind: Suite, rounds: int) -> int:
    """Of the kinds that take more to draw."""
    return rounds if kind.items == 1 else rounds // 10


def tables() -> Iterator[str]:
    """In Markdown."""
    by_rows, at_margin, planned = [], [], []
    rows = [f"{count} rows" if count > 1 else "one row" for count in ROWS]
    for name, kind in KINDS.items():
        shares = [max(errors(kind, count, ROUNDS // count)) for count in ROWS]
        by_rows.append([name, *map(percent, shares + [fixed(kind, *one) for one in FIXED])])
        shares = [error_of_equivalence(kind, count, MARGIN, ROUNDS // count) for count in ROWS]
        at_margin.append([name, *map(percent, shares)])
    for seeds, count in FIXED:
        planned.append(f"{seeds} seeds planned, {rows[ROWS.index(count)]}")
    yield _table(by_rows, "differences", *rows, *planned)
    yield _table(at_margin, "differences", *rows)
    by_gain = []
    for gain in GAINS:
        suite = Suite(normal, normal, gain=gain)
        found = judged(suite, rounds=ROUNDS // 12)
        row = [f"{gain:g}", percent(ever(found.above)), f"{seeds_until(suite, found.above, found.below):.1f}"]
        for margin in MARGINS:
            found = judged(suite, margin=margin, rounds=ROUNDS // 12)
            seeds = seeds_until(suite, found.above, found.below, found.alike)
            row += [percent(ever(found.alike)), f"{seeds:.1f}"]
        by_gain.append(row)
    margins = [(f"within {margin:g}", f"seeds, margin {margin:g}") for margin in MARGINS]
    yield _table(by_gain, "gain", "shown", "seeds", *(name for pair in margins for name in pair))

    by_gain = [
        [f"{gain:g}", *(told for margin in (None, MARGINS[0]) for told in left_off(gain, margin))]
        for gain in GAINS
    ]
    columns = ("decided", "with the rule", "seeds", "with the rule")
    within = [f"{column}, margin {MARGINS[0]:g}" for column in columns]
    yield _table(by_gain, "gain", *columns, *within)


def left_off(gain: float, margin: float | None, rounds: int = ROUNDS // 240) -> Iterator[str]:
    """How often a claim of one row is decided, and after how many seeds: gone on with to the end, and left
    off where it is futile."""
    generator, plan, found = np.random.default_rng(2), STAGES, []
    for _ in range(rounds):
        values = normal(generator, plan[-1:]) + gain
        decided, left = len(plan) - 1, len(plan) - 1
        for stage, seeds in enumerate(plan):
            now = evidence_of(values[:seeds], plan)
            assert isinstance(now, Staged)
            p = [now.p_at_most(), now.p_at_least()]
            if margin is not None:
                p.append(max(now.p_at_most(-margin), now.p_at_least(margin)))
            if min(p) < ALPHA:
                decided = stage
                break
            alike = None if margin is None else Range(-margin, margin)
            if left == len(plan) - 1 and is_futile(Asked(now, Range(0.0, np.inf), alike, plan, ALPHA)):
                left = stage
        is_decided = min(p) < ALPHA
        found.append((is_decided, is_decided and decided <= left, plan[decided], plan[min(decided, left)]))
    shares = np.mean(found, axis=0)
    yield from (percent(shares[0]), percent(shares[1]), f"{shares[2]:.1f}", f"{shares[3]:.1f}")


def _table(rows: Sequence[Sequence[str]], *header: str) -> str:
    return tabulate(rows, header, "pipe", disable_numparse=True)


def fixed(kind: Suite, seeds: int, rows: int = 1, rounds: int = ROUNDS) -> float:
    """The error where the number of seeds is fixed: what looking several times adds is beyond that."""
    return max(errors(replace(kind, plan=(seeds,)), rows, rounds // rows))


def percent(share: float) -> str:
    """With one digit."""
    return f"{100 * share:.1f} %"


def main() -> None:
    """Write the tables into the page."""
    began, made = time.process_time(), [*tables()]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n\n".join([before + BEGIN, *made, END + after]), encoding="utf-8")
    print(f"{PAGE}: {ROUNDS:,} rounds of a row, {time.process_time() - began:.0f} s")


if __name__ == "__main__":
    main()
