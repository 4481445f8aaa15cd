"""ScaLoRA's scales against brute force: non-negative least squares on the vectorised problem."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor

from rankbench.adapters.scalora.scaling import column_solution, column_system, scalar_solution
from tests.conftest import seeded

pytestmark = pytest.mark.numerical

SCALE = 1.7


def problem(
    seed: int, out: int, inner: int, rank: int, *, spread: float = 0.0, gradient_rank: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """G, A, B in float64; column lengths differ by factors of up to 10^spread."""
    generator = seeded(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    g = normal(out, inner)
    if gradient_rank is not None:
        g = normal(out, gradient_rank) @ normal(gradient_rank, inner)
    lengths = 10 ** (spread * (torch.rand(2, rank, dtype=torch.float64, generator=generator) - 0.5))
    return g, normal(out, rank) * lengths[0], normal(inner, rank) * lengths[1]


def system(g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    p, q = SCALE * g @ b, SCALE * g.t() @ a
    return column_system(a[None], b[None], p[None], q[None], SCALE)


def directions(g: Tensor, a: Tensor, b: Tensor) -> np.ndarray:
    """What one unit of each unknown adds to the step, vectorised: (out · in, 2r)."""
    left = [SCALE**2 * torch.outer(x, x) @ g for x in a.t()]
    right = [SCALE**2 * g @ torch.outer(x, x) for x in b.t()]
    return torch.stack([x.flatten() for x in left + right], dim=1).numpy()


def brute_force(columns: np.ndarray, g: Tensor) -> tuple[np.ndarray, float]:
    """argmin and min over v >= 0 of ‖vec G - columns v‖²."""
    lengths = np.linalg.norm(columns, axis=0)
    v, residual = nnls(columns / lengths, g.flatten().numpy(), maxiter=1000)
    return v / lengths, residual**2


def left_over(columns: np.ndarray, g: Tensor, v: Tensor) -> float:
    return float(np.sum((g.flatten().numpy() - columns @ v.numpy()) ** 2))


@pytest.mark.parametrize("spread", [0.0, 3.0, 6.0])
@pytest.mark.parametrize(("out", "inner", "rank"), [(6, 9, 1), (5, 4, 2), (10, 14, 4), (16, 12, 6)])
def test_column_rule_is_the_nonnegative_optimum(out: int, inner: int, rank: int, spread: float) -> None:
    seen = set()
    for seed in range(30):
        g, a, b = problem(seed, out, inner, rank, spread=spread)
        columns = directions(g, a, b)
        v, optimal = column_solution(*system(g, a, b))
        exact, least = brute_force(columns, g)
        seen.add(bool(optimal))
        if optimal:
            np.testing.assert_allclose(v[0].numpy(), exact, rtol=1e-6)
            assert left_over(columns, g, v[0]) == pytest.approx(least, rel=1e-9)
        else:
            assert (exact == 0).any()
    assert True in seen
    if rank > 1:
        assert False in seen


@pytest.mark.parametrize("spread", [0.0, 4.0])
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_scalar_rule_is_the_nonnegative_optimum(rank: int, spread: float) -> None:
    for seed in range(30):
        g, a, b = problem(seed, 14, 11, rank, spread=spread)
        columns = directions(g, a, b)
        sums = np.stack([columns[:, :rank].sum(1), columns[:, rank:].sum(1)], axis=1)
        exact, _ = brute_force(sums, g)
        np.testing.assert_allclose(scalar_solution(*system(g, a, b))[0].numpy(), exact, rtol=1e-9)


def test_clipped_scalar_cases_are_the_nonnegative_optimum() -> None:
    """Cases whose unrestricted optimum is negative are rare, so they are searched for."""
    clipped = 0
    for seed in range(600):
        g, a, b = problem(seed, 3, 3, 2)
        columns = directions(g, a, b)
        sums = np.stack([columns[:, :2].sum(1), columns[:, 2:].sum(1)], axis=1)
        unrestricted = np.linalg.lstsq(sums, g.flatten().numpy(), rcond=None)[0]
        if (unrestricted >= 0).all():
            continue
        clipped += 1
        exact, _ = brute_force(sums, g)
        found = scalar_solution(*system(g, a, b))[0].numpy()
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=0)
        assert (found == 0).sum() == 1
    assert clipped >= 10


@pytest.mark.parametrize("gradient_rank", [1, 2])
def test_singular_systems_stay_optimal_or_are_refused(gradient_rank: int) -> None:
    """The gradient's column space holds A: more unknowns than independent directions."""
    for seed in range(30):
        g, a, b = problem(seed, 10, 8, 4, gradient_rank=gradient_rank)
        a = g @ b @ torch.diag(torch.linspace(0.1, 1, 4, dtype=torch.float64))
        columns = directions(g, a, b)
        matrix, target = system(g, a, b)
        v, optimal = column_solution(matrix, target)
        if optimal:
            assert left_over(columns, g, v[0]) == pytest.approx(
                brute_force(columns, g)[1], rel=1e-6, abs=1e-9
            )
        scalar = scalar_solution(matrix, target)[0]
        sums = np.stack([columns[:, :4].sum(1), columns[:, 4:].sum(1)], axis=1)
        assert (scalar >= 0).all()
        assert left_over(sums, g, scalar) == pytest.approx(brute_force(sums, g)[1], rel=1e-6, abs=1e-9)


def test_parallel_rank_one_factors_share_one_direction() -> None:
    """Everything along one pair of vectors: both scales describe the same step, one is enough."""
    u, w = (
        torch.linspace(1, 2, 5, dtype=torch.float64)[:, None],
        torch.linspace(-1, 3, 4, dtype=torch.float64)[:, None],
    )
    g, a, b = 2 * u @ w.t(), 0.3 * u, 0.1 * w
    matrix, target = system(g, a, b)
    scalar = scalar_solution(matrix, target)[0]
    assert left_over(directions(g, a, b), g, scalar) == pytest.approx(0, abs=1e-18)


def test_a_zero_factor_leaves_the_other_its_own_optimum() -> None:
    g, _, b = problem(0, 9, 7, 3)
    a = torch.zeros(9, 3, dtype=torch.float64)
    matrix, target = system(g, a, b)
    v, optimal = column_solution(matrix, target)
    columns = directions(g, a, b)[:, 3:]
    exact, _ = brute_force(columns, g)
    assert optimal
    assert v[0, :3].isnan().all()
    np.testing.assert_allclose(v[0, 3:].numpy(), exact, rtol=1e-9)
    scalar = scalar_solution(matrix, target)[0]
    assert scalar[0].isnan()
    np.testing.assert_allclose(
        scalar[1:].numpy(), brute_force(columns.sum(1, keepdims=True), g)[0], rtol=1e-9
    )


def test_a_zero_column_drops_out() -> None:
    g, a, b = problem(1, 9, 7, 2)
    a[:, 1] = 0
    v, optimal = column_solution(*system(g, a, b))
    exact, _ = brute_force(directions(g, a, b)[:, [0, 2, 3]], g)
    assert v[0, 1].isnan()
    if optimal:
        np.testing.assert_allclose(v[0, [0, 2, 3]].numpy(), exact, rtol=1e-8)


def test_a_zero_gradient_has_no_direction() -> None:
    _, a, b = problem(0, 5, 4, 2)
    matrix, target = system(torch.zeros(5, 4, dtype=torch.float64), a, b)
    assert column_solution(matrix, target)[0].isnan().all()
    assert scalar_solution(matrix, target).isnan().all()


def test_gradient_length_does_not_matter() -> None:
    g, a, b = problem(3, 12, 10, 2)
    for factor in (1e-6, 1e6):
        for solve in (scalar_solution, lambda m, t: column_solution(m, t)[0]):
            torch.testing.assert_close(
                solve(*system(factor * g, a, b)), solve(*system(g, a, b)), rtol=1e-9, atol=0
            )


def test_single_precision_moves_the_scales_little() -> None:
    off = []
    for seed in range(50):
        g, a, b = problem(seed, 96, 64, 4, spread=4.0)
        p, q = SCALE * g @ b, SCALE * g.t() @ a
        single = column_system(*(x.float()[None] for x in (a, b, p, q)), SCALE)
        v, exact = column_solution(*single)[0], column_solution(*system(g, a, b))[0]
        off.append(float(((v - exact) / exact).abs().max()))
        assert single[0].dtype == torch.float64
    assert math.exp(np.mean(np.log(off))) < 1e-4
