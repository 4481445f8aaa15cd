"""Systems that are singular up to rounding: what the rules reach, by the value of the bound, against
SciPy's non-negative least squares on the vectorised problem (which never forms the Gram matrices).

`adapters.scalora.scaling` proves a loss of at most 9/8 τ |w|², with w the best v ≥ 0 in units of the columns'
lengths. The gradients' own rounding adds a few rounding errors of |G|².
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from rankbench import adapters
from rankbench.adapters.scalora.adapter import ScaLora
from rankbench.adapters.scalora.nnls import TOLERANCE, nonnegative_solution
from rankbench.adapters.scalora.scaling import RIDGE, column_solution, column_system, scalar_solution
from rankbench.adapters.scalora.svd import ScaLoraSvd
from tests.conftest import seeded

pytestmark = pytest.mark.numerical
SCALE = 1.7
NOISES = [0.0, 1e-12, 1e-8, 1e-6, 1e-4, 1e-2]
RANKS = [1, 2, 3, 5, 8, 16]
DTYPES = [torch.float64, torch.float32]
LOSS = 9 / 8 * RIDGE
"""In rounding errors."""

Problem = tuple[Tensor, Tensor, Tensor]
"""G (out, in), A (out, r), B (in, r) in float64."""


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def one_direction(seed: int, rank: int, noise: float) -> Problem:
    """Gradient and factors along one pair of vectors: A's part and B's part are the same step."""
    draw, out, inner = seeded(seed), rank + 4, rank + 6
    u, w = normal(draw, out, 1), normal(draw, inner, 1)
    g = u @ w.T + noise * normal(draw, out, inner)
    a = u @ normal(draw, 1, rank) + noise * normal(draw, out, rank)
    return g, a, w @ normal(draw, 1, rank) + noise * normal(draw, inner, rank)


def parallel_columns(seed: int, rank: int, noise: float) -> Problem:
    """Each factor's columns along one vector, the gradient of full rank."""
    draw, out, inner = seeded(seed), rank + 4, rank + 6
    g = normal(draw, out, inner)
    a, b = (normal(draw, n, 1) @ normal(draw, 1, rank) + noise * normal(draw, n, rank) for n in (out, inner))
    return g, a, b


def after_a_first_step(seed: int, rank: int, noise: float) -> Problem:
    """A gradient of rank one, up to noise, and A a multiple of G B: what one step of descent makes."""
    draw, out, inner = seeded(seed), rank + 4, rank + 6
    u, w, b = normal(draw, out, 1), normal(draw, inner, 1), normal(draw, inner, rank)
    g = u @ w.T + noise * normal(draw, out, inner)
    return g, 1e-3 * (u @ (w.T @ b) + noise * normal(draw, out, rank)), b


def opposite_columns(seed: int, rank: int, noise: float) -> Problem:
    """A's columns along ±e₂, which the gradient does not see, with a small part along its own e₁: they
    add opposite steps, nearly, so that the best scales are as long as the part is small."""
    draw, out, inner = seeded(seed), rank + 4, rank + 6
    g, a = torch.zeros(out, inner, dtype=torch.float64), torch.zeros(out, rank, dtype=torch.float64)
    g[0] = normal(draw, inner)
    a[0] = max(noise, 1e-9) ** 0.5 * (1 + 0.1 * normal(draw, rank))
    a[1] = torch.where(torch.arange(rank) % 2 == 0, 1.0, -1.0)
    return g, a, 0.1 * normal(draw, inner, rank)


KINDS = [one_direction, parallel_columns, after_a_first_step, opposite_columns]


def rounded(problem: Problem, dtype: torch.dtype) -> tuple[Problem, list[Tensor]]:
    """The problem whose factors are of the type, and A, B, P, Q (1, rows, r) in it."""
    g, a, b = problem[0], *(x.to(dtype).double() for x in problem[1:])
    given = (a, b, SCALE * g @ b, SCALE * g.T @ a)
    return (g, a, b), [x.to(dtype)[None] for x in given]


def steps(problem: Problem) -> np.ndarray:
    """What one unit of each unknown adds to the step, vectorised: (out · in, 2r)."""
    g, a, b = problem
    left, right = ([torch.outer(x, x) for x in factor.T] for factor in (a, b))
    columns = [SCALE**2 * x @ g for x in left] + [SCALE**2 * g @ x for x in right]
    return torch.stack([x.flatten() for x in columns], dim=1).numpy()


class Reached:
    """How far v (unknowns,) stays above the least value, with what may be expected of it."""

    def __init__(self, columns: np.ndarray, g: Tensor, v: Tensor) -> None:
        goal, lengths = g.flatten().numpy(), np.linalg.norm(columns, axis=0)
        lengths[lengths == 0] = 1
        units = columns / lengths
        best, left = nnls(units, goal, maxiter=10_000)
        mine = v.nan_to_num().numpy() * lengths
        assert (mine >= 0).all()
        self.loss = (np.sum((goal - units @ mine) ** 2) - left**2) / 2
        self.gradient = float(goal @ goal)
        self.squared = float(best @ best)
        self.length = float(best.sum() + mine.sum())

    def allowed(self, precision: float) -> float:
        return LOSS * precision * (self.squared + self.gradient)


def of_factors(columns: np.ndarray, rank: int) -> np.ndarray:
    return np.stack([columns[:, :rank].sum(1), columns[:, rank:].sum(1)], axis=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_rule_loses_more_than_rounding(
    kind: Callable[[int, int, float], Problem], noise: float, dtype: torch.dtype
) -> None:
    precision = torch.finfo(dtype).eps
    for rank in RANKS:
        for seed in range(4):
            problem, factors = rounded(kind(seed, rank, noise), dtype)
            system, columns = column_system(*factors, SCALE), steps(problem)
            scalar = Reached(of_factors(columns, rank), problem[0], scalar_solution(*system, precision)[0])
            assert scalar.loss <= scalar.allowed(precision), (rank, seed)
            v, accepted = column_solution(*system, precision)
            if accepted:
                column = Reached(columns, problem[0], v[0])
                assert column.loss <= column.allowed(precision), (rank, seed)
            v, _, solved = nonnegative_solution(*system, precision)
            if solved:
                exact = Reached(columns, problem[0], v[0])
                # What it takes for zero in the optimality conditions.
                floor = TOLERANCE * exact.gradient**0.5 * exact.length
                assert exact.loss <= exact.allowed(precision) + floor, (rank, seed)


def test_coinciding_columns_are_accepted_whatever_the_rounding() -> None:
    """One direction twice: any split is as good, so it is half and half, for both kinds of rule."""
    for dtype in DTYPES:
        for seed in range(40):
            _, factors = rounded(one_direction(seed, 1, 0.0), dtype)
            system = column_system(*factors, SCALE)
            v, accepted = column_solution(*system, torch.finfo(dtype).eps)
            assert accepted
            for found in (v, scalar_solution(*system, torch.finfo(dtype).eps)):
                part = found[0] * system[0][0].diagonal().sqrt()
                torch.testing.assert_close(part, part.mean().expand(2), rtol=0.2, atol=0)


@pytest.mark.parametrize("name", ["scalora", "scalora-nnls"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_column_of_no_use_up_to_rounding_is_left_a_trace(dtype: torch.dtype, name: str) -> None:
    """G = u wᵀ: along u and w the first column takes all of it, half and half, and the second, u + t and
    w + t, is of no use. Its scales are zero, not noise, but it keeps a length to come back from."""
    draw = seeded(0)
    (u, t), (w, o) = (torch.linalg.qr(normal(draw, n, 2))[0].split(1, dim=1) for n in (7, 9))
    g, a, b = u @ w.T, torch.cat([u, u + t], dim=1), torch.cat([w, w + o], dim=1)
    adapter = adapters.create(name, rank=2, alpha=2 * SCALE)
    assert isinstance(adapter, ScaLora)
    _, factors = rounded((g, a, b), dtype)
    v, taken, flags = adapter.rule(*column_system(*factors, adapter.scale), torch.finfo(dtype).eps)
    assert flags["nonnegative"].all()
    torch.testing.assert_close(v[0, ::2] * SCALE**2, torch.full((2,), 0.5, dtype=v.dtype), rtol=0.2, atol=0)
    assert not v[0, 1::2].any()
    assert (taken > 0).all()


@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-4, 1e-2])
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_moved_by_a_few_rounding_errors_give_the_same_value(
    kind: Callable[[int, int, float], Problem], noise: float
) -> None:
    """As another processor would move them."""
    precision = torch.finfo(torch.float64).eps
    for rank in (1, 4, 16):
        problem, factors = rounded(kind(0, rank, noise), torch.float64)
        sums, draw = of_factors(steps(problem), rank), seeded(1)
        for _ in range(4):
            moved = [x * (1 + 4 * precision * (torch.rand(x.shape, generator=draw) - 0.5)) for x in factors]
            reached = Reached(sums, problem[0], scalar_solution(*column_system(*moved, SCALE), precision)[0])
            assert reached.loss <= 2 * reached.allowed(precision)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_svd_takes_nothing_from_rounding(dtype: torch.dtype) -> None:
    """A gradient of rank 3 has three directions: A's share of four ends after one of its own two, and
    no sign depends on the decomposition."""
    draw = seeded(0)
    g = (normal(draw, 9, 3) @ normal(draw, 3, 12)).to(dtype)
    adapter = ScaLoraSvd(rank=2, alpha=3.0)
    a, b = adapter.optimum(g)
    assert b.all()
    assert a[:, 0].any()
    assert not a[:, 1].any()
    for factor in (a[:, :1], b):
        assert (factor.amax(dim=0) == factor.abs().amax(dim=0)).all()
    turned = adapter.optimum(-g)
    for factor, other in zip((a, b), turned, strict=True):
        torch.testing.assert_close(factor, other)
