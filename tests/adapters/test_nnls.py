"""The exact column rule against every active set, and against SciPy on the vectorised problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from rankbench.adapters.scalora.nnls import EXCHANGES, KEPT, kept_alive, nonnegative_solution
from rankbench.adapters.scalora.scaling import column_solution, column_system, scalar_solution
from tests.adapters.test_scaling import SCALE, brute_force, directions, left_over, problem, system
from tests.conftest import seeded

pytestmark = pytest.mark.numerical

System = tuple[Tensor, Tensor]
MANY = 60
"""Exchanges for matrices without the column problem's structure."""


def factors(seed: int, rank: int) -> System:
    return system(*problem(seed, rank + 2, rank + 3, rank, spread=3.0))


def parallel(seed: int, rank: int) -> System:
    g, a, b = problem(seed, rank + 1, rank + 1, rank)
    return system(g, a[:, :1] + 0.1 * a, b[:, :1] + 0.1 * b)


def zero_columns(seed: int, rank: int) -> System:
    g, a, b = problem(seed, rank + 2, rank + 3, rank)
    a[:, seed % rank] = 0
    b[:, 0] = 0
    return system(g, a, b)


def rank_one_gradient(seed: int, rank: int) -> System:
    g, _, b = problem(seed, rank + 2, rank + 3, rank, gradient_rank=1)
    return system(g, g @ b, b)


def duplicates(seed: int, rank: int) -> System:
    g, a, b = problem(seed, rank + 2, rank + 3, rank)
    a[:, 1:], b[:, -1] = a[:, :1], b[:, 0]
    return system(g, a, b)


def dense(seed: int, rank: int) -> System:
    return gram(seed, 2 * rank, 2 * rank)


def dense_singular(seed: int, rank: int) -> System:
    return gram(seed, rank, 2 * rank)


def nothing_free(seed: int, rank: int) -> System:
    matrix, target = dense(seed, rank)
    return matrix, -target.abs()


def gram(seed: int, rows: int, size: int, *, spread: float = 0.0) -> System:
    """NᵀN and Nᵀg: any least-squares problem, its right-hand side of both signs."""
    generator = seeded(seed)
    n, g = (torch.randn(rows, k, dtype=torch.float64, generator=generator) for k in (size, 1))
    n = n * 10 ** (spread * (torch.rand(rows, 1, dtype=torch.float64, generator=generator) - 0.5))
    return (n.t() @ n)[None], (n.t() @ g).t()


STRUCTURED = [factors, parallel, zero_columns, rank_one_gradient, duplicates]


def unit(matrix: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """M with a unit diagonal, λ and the unit, of which zero columns keep 1."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(diagonal > 0, diagonal, 1.0).rsqrt()
    return matrix * scale[..., :, None] * scale[..., None, :], target * scale, scale


def violation(matrix: Tensor, target: Tensor, v: Tensor) -> float:
    """How far the smaller of v and M v − λ is from zero, where the optimum has it: against λ's largest
    entry, on a unit diagonal."""
    scaled, goal, scale = unit(matrix, target)
    x = v.nan_to_num() / scale
    residual = torch.minimum(x, (scaled @ x[..., None])[..., 0] - goal).abs()
    return float((residual.amax(dim=1) / goal.abs().amax(dim=1).clamp(min=1e-300)).max())


def every_active_set(matrix: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """The best v ≥ 0 of all that solve M v = λ on some columns and are zero on the others."""
    scaled, goal, scale = (x[0] for x in unit(matrix, target))
    size = len(goal)
    free = (torch.arange(2**size)[:, None] >> torch.arange(size)) % 2 == 1
    restricted = torch.where(free[:, :, None] & free[:, None, :], scaled, torch.eye(size, dtype=scaled.dtype))
    x = torch.linalg.solve_ex(restricted, torch.where(free, goal, 0.0)).result
    x = x[(x.isfinite() & (x >= -1e-12)).all(dim=1)].clamp(min=0)
    values = ((x @ scaled) * x).sum(dim=1) / 2 - x @ goal
    best = values.argmin()
    return x[best] * scale, float(values[best])


@pytest.mark.parametrize("rank", range(1, 7))
@pytest.mark.parametrize("kind", [*STRUCTURED, dense, dense_singular, nothing_free])
def test_the_best_of_every_active_set(kind: Callable[[int, int], System], rank: int) -> None:
    systems = [kind(seed, rank) for seed in range(6)]
    matrix, target = (torch.cat(parts) for parts in zip(*systems, strict=True))
    exchanges = EXCHANGES if kind in STRUCTURED else MANY
    v, _, solved = nonnegative_solution(matrix, target, exchanges=exchanges)
    assert solved.all()
    assert violation(matrix, target, v) <= 1e-10
    for found, (one, goal) in zip(v.nan_to_num(), systems, strict=True):
        exact, least = every_active_set(one, goal)
        value = float(found @ one[0] @ found / 2 - found @ goal[0])
        assert value == pytest.approx(least, rel=1e-9, abs=1e-12)
        eigenvalues = torch.linalg.eigvalsh(unit(one, goal)[0][0])
        if eigenvalues[0] > 1e-6:
            torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-9 * float(exact.abs().max()))
        if kind is nothing_free:
            assert not found.any()


@pytest.mark.parametrize("spread", [0.0, 3.0, 6.0])
@pytest.mark.parametrize(("out", "inner", "rank"), [(6, 9, 1), (5, 4, 2), (10, 14, 4), (16, 12, 6)])
def test_agrees_with_scipy_on_the_vectorised_problem(out: int, inner: int, rank: int, spread: float) -> None:
    for seed in range(30):
        g, a, b = problem(seed, out, inner, rank, spread=spread)
        matrix, target = system(g, a, b)
        v, inside, solved = nonnegative_solution(matrix, target)
        columns = directions(g, a, b)
        exact, least = brute_force(columns, g)
        assert solved
        np.testing.assert_allclose(v[0].numpy(), exact, rtol=1e-6, atol=1e-9 * exact.max())
        assert left_over(columns, g, v[0]) == pytest.approx(least, rel=1e-9)
        if not inside:
            scalar = scalar_solution(matrix, target)[0].repeat_interleave(rank)
            assert left_over(columns, g, v[0]) < left_over(columns, g, scalar)


def test_is_the_column_rule_bit_for_bit_where_that_is_non_negative() -> None:
    systems = [factors(seed, 3) for seed in range(60)] + [zero_columns(seed, 3) for seed in range(60)]
    matrix, target = (torch.cat(parts) for parts in zip(*systems, strict=True))
    v, inside, _ = nonnegative_solution(matrix, target)
    column, optimal = column_solution(matrix, target)
    assert torch.equal(inside, optimal)
    assert inside.any()
    assert not inside.all()
    assert torch.equal(v[inside].nan_to_num(-1), column[inside].nan_to_num(-1))
    assert torch.equal(v.isnan(), column.isnan())


def hard(rank: int, closeness: float, count: int, *, size: int) -> System:
    """Many layers at once whose columns all point the same way, nearly."""
    generator = seeded(rank)

    def normal(columns: int) -> Tensor:
        return torch.randn(count, size, columns, dtype=torch.float64, generator=generator)

    g = normal(size)
    a, b = (normal(1) + closeness * normal(rank) for _ in range(2))
    return column_system(a, b, SCALE * g @ b, SCALE * g.mT @ a, SCALE)


@pytest.mark.parametrize(
    ("rank", "closeness", "count", "size"),
    [
        (2, 0.1, 600, 2), (3, 0.1, 600, 3), (4, 0.3, 400, 4),
        (6, 0.03, 200, 6), (8, 0.1, 100, 12), (16, 0.3, 20, 24),
    ],
)  # fmt: skip
def test_ten_exchanges_are_enough_for_the_hardest_factors(
    rank: int, closeness: float, count: int, size: int
) -> None:
    matrix, target = hard(rank, closeness, count, size=size)
    v, _, solved = nonnegative_solution(matrix, target, exchanges=EXCHANGES - 1)
    assert solved.all()
    assert violation(matrix, target, v) <= 1e-10
    assert not nonnegative_solution(matrix, target, exchanges=1)[2].all()


def test_what_the_exchanges_leave_unsolved_is_told() -> None:
    systems = [gram(seed, 12, 12, spread=3.0) for seed in range(40)]
    matrix, target = (torch.cat(parts) for parts in zip(*systems, strict=True))
    v, _, solved = nonnegative_solution(matrix, target, exchanges=5)
    assert solved.any()
    assert not solved.all()
    assert v[~solved].isnan().all()
    assert violation(matrix[solved], target[solved], v[solved]) <= 1e-10
    v, _, solved = nonnegative_solution(matrix, target, exchanges=MANY)
    assert solved.all()
    assert violation(matrix, target, v) <= 1e-10


def test_dependent_columns_in_single_precision() -> None:
    """A = G B with a gradient of rank one, as after a first step: rounding makes M indefinite."""
    generator = seeded()

    def normal(*shape: int) -> Tensor:
        return torch.randn(40, *shape, dtype=torch.float64, generator=generator)

    g, b = normal(64, 1) @ normal(1, 48), normal(48, 8)
    a = 1e-3 * g @ b
    double = a, b, SCALE * g @ b, SCALE * g.mT @ a
    rounded = column_system(a.float(), b.float(), double[2].float(), double[3].float(), SCALE)
    v, _, solved = nonnegative_solution(*rounded, torch.finfo(torch.float32).eps)
    assert solved.all()
    assert not nonnegative_solution(*rounded)[2].all()
    matrix, target = column_system(*double, SCALE)
    exact = nonnegative_solution(matrix, target)[0]

    def value(x: Tensor) -> Tensor:
        return ((matrix @ x[..., None])[..., 0] * x).sum(dim=1) / 2 - (x * target).sum(dim=1)

    torch.testing.assert_close(value(v), value(exact), rtol=1e-5, atol=0)


def test_a_zero_gradient_has_no_direction() -> None:
    _, a, b = problem(0, 5, 4, 2)
    assert nonnegative_solution(*system(torch.zeros(5, 4, dtype=torch.float64), a, b))[0].isnan().all()


def test_a_gradient_that_is_no_number_is_not_solved() -> None:
    g, a, b = problem(0, 5, 4, 2)
    v, _, solved = nonnegative_solution(*system(g * torch.nan, a, b))
    assert v.isnan().all()
    assert not solved.any()


def test_a_column_that_would_lose_both_factors_keeps_a_trace() -> None:
    matrix = torch.diag_embed(torch.tensor([[2.0, 2.0, 0.0, 4.0, 4.0, 4.0]], dtype=torch.float64))
    target = torch.tensor([[3.0, 3.0, 0.0, 8.0, 8.0, 8.0]], dtype=torch.float64)
    v = torch.tensor([[0.0, 0.0, torch.nan, 0.0, 5.0, 0.0]], dtype=torch.float64)
    kept = kept_alive(v, matrix, target)
    expected = torch.tensor([[1.5 * KEPT, 0.0, torch.nan, 2 * KEPT, 5.0, 2 * KEPT]], dtype=torch.float64)
    torch.testing.assert_close(kept, expected, equal_nan=True)
    unsolved = torch.full_like(v, torch.nan)
    assert kept_alive(unsolved, matrix, target).isnan().all()
