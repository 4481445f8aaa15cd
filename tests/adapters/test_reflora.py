"""RefLoRA: that its factorization is the best one, by what it is defined by and by search."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from rankbench.adapters.lora import LowRankLinear
from rankbench.adapters.reflora import RefLora, geometric_mean
from tests.conftest import seeded

pytestmark = pytest.mark.numerical


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def grams(seed: int, rank: int) -> tuple[Tensor, Tensor]:
    """AᵀA and BᵀB of two random factors of unlike lengths."""
    a, b = 0.01 * drawn(seed, 9, rank), 3.0 * drawn(seed + 1, 7, rank)
    return (a.t() @ a)[None], (b.t() @ b)[None]


def bound(mean: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """‖B S Bᵀ‖² + ‖A S⁻¹ Aᵀ‖², in terms of AᵀA and BᵀB."""
    one, other = mean @ right, torch.linalg.solve(mean, left)
    return (one @ one).diagonal(dim1=-2, dim2=-1).sum() + (other @ other).diagonal(dim1=-2, dim2=-1).sum()


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_mean_makes_one_gram_matrix_of_the_other(rank: int) -> None:
    left, right = grams(0, rank)
    mean, inverse = geometric_mean(left, right)
    torch.testing.assert_close(mean @ right @ mean, left)
    torch.testing.assert_close(mean @ inverse, torch.eye(rank, dtype=torch.float64)[None])
    assert (torch.linalg.eigvalsh(mean) > 0).all()


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_the_bound_is_least_there(rank: int) -> None:
    """A search over all positive definite S = P Pᵀ, begun elsewhere, ends there."""
    left, right = grams(3, rank)
    best, _ = geometric_mean(left, right)
    least, unit = bound(best, left, right), float(best.diagonal(dim1=-2, dim2=-1).mean())
    start = 3 * torch.eye(rank, dtype=torch.float64) + 0.3 * drawn(9, rank, rank)
    factor = (unit**0.5 * start)[None].requires_grad_(True)
    search = torch.optim.LBFGS([factor], max_iter=300, line_search_fn="strong_wolfe")

    def value() -> Tensor:
        search.zero_grad()
        found = bound(factor @ factor.mT, left, right) / least
        found.backward()
        return found

    assert value().item() > 1.1
    search.step(value)
    assert value().item() == pytest.approx(1.0, abs=1e-9)
    torch.testing.assert_close((factor @ factor.mT).detach(), best, rtol=1e-3, atol=1e-3 * unit)


def stepped(adapter: RefLora, a: Tensor, b: Tensor, step: int = 1) -> tuple[Tensor, LowRankLinear]:
    """By how much one step of gradient descent from these factors moves the weight; the layer after it."""
    layer = nn.Linear(7, 5, bias=False).double()
    nn.init.normal_(layer.weight, generator=seeded(1))
    model = nn.Sequential(layer)
    adapter.attach(model, ["0"], heads=())
    wrapped = adapter.layers["0"]
    assert isinstance(wrapped, LowRankLinear)
    with torch.no_grad():
        wrapped.A.copy_(a)
        wrapped.B.copy_(b)
    before = adapter.weight("0")
    (model(drawn(2, 6, 7)) * drawn(3, 6, 5)).sum().backward()
    optimizer = SGD([wrapped.A, wrapped.B], lr=1e-6)
    adapter.before_step(optimizer, step)
    optimizer.step()
    return adapter.weight("0") - before, wrapped


def adapter(**values: float) -> RefLora:
    return RefLora(**{"rank": 2, "alpha": 6.0, "total_steps": 10, "warmup": 1} | values)


A, B = drawn(4, 5, 2), 0.1 * drawn(5, 7, 2)


def test_a_step_is_that_of_loras_from_the_best_factors() -> None:
    """Which are A P⁻ᵀ and B P, P = S^½; LoRA's own steps come before warm-up is over."""
    mean, _ = geometric_mean((A.t() @ A)[None], (B.t() @ B)[None])
    values, vectors = torch.linalg.eigh(mean[0])
    root = (vectors * values.sqrt()) @ vectors.t()
    best = A @ torch.linalg.inv(root), B @ root
    torch.testing.assert_close(best[0].t() @ best[0], best[1].t() @ best[1])  # balanced
    ours, plain = stepped(adapter(), A, B)[0], stepped(adapter(), *best, step=0)[0]
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-12)


def test_steps_do_not_depend_on_the_factorization() -> None:
    """LoRA's do."""
    mixed = torch.tensor([[3.0, 1.0], [-0.5, 0.2]], dtype=torch.float64)
    other = A @ torch.linalg.inv(mixed).t(), B @ mixed
    torch.testing.assert_close(
        stepped(adapter(), A, B)[0], stepped(adapter(), *other)[0], rtol=1e-4, atol=1e-12
    )
    one, two = stepped(adapter(), A, B, step=0)[0], stepped(adapter(), *other, step=0)[0]
    assert not torch.allclose(one, two, rtol=0.1, atol=0)


@pytest.mark.parametrize("a", [torch.zeros_like(A), A[:, :1].repeat(1, 2), torch.full_like(A, torch.nan)])
def test_a_singular_factor_leaves_loras_gradients(a: Tensor) -> None:
    """The zero that A starts at, two equal columns, and what has diverged, which is the loop's to report."""
    ours, plain = stepped(adapter(), a, B)[1], stepped(adapter(), a, B, step=0)[1]
    for one, other in ((ours.A, plain.A), (ours.B, plain.B)):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("warmup", "first"), [(0, 0), (0.25, 2), (3, 3), (0.0, 0)])
def test_warm_up_in_steps_or_as_a_share(warmup: float, first: int) -> None:
    assert adapter(warmup=warmup).first_step == first
