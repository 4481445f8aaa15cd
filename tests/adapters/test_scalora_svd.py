"""Theorem 3.2 as an adapter: its factors are the best there are, and training them stays exact."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.optim import AdamW

from rankbench import adapters
from rankbench.adapters import AdapterError
from rankbench.adapters.scalora.scaling import column_solution, column_system, scalar_solution
from rankbench.adapters.scalora.svd import FullGradientLinear, ScaLoraSvd
from tests.conftest import seeded

pytestmark = pytest.mark.numerical

OUT, IN, RANK = 9, 12, 2
ETA, SMOOTHNESS = 1e-2, 50.0


def adapter_on(model: nn.Module, **values: float) -> ScaLoraSvd:
    given = {"rank": RANK, "alpha": 5.0, "learning_rate": ETA, "smoothness": SMOOTHNESS} | values
    adapter = adapters.create("scalora-svd", **given)
    assert isinstance(adapter, ScaLoraSvd)
    adapter.attach(model, ["0"], heads=[], generator=seeded())
    return adapter


def problem() -> tuple[nn.Sequential, Tensor, Tensor]:
    """A linear layer in float64, inputs, and targets that no low-rank increment reaches."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(IN, OUT)).double()
        x = torch.randn(40, IN, dtype=torch.float64)
        return model, x, torch.randn(40, OUT, dtype=torch.float64)


def layer_of(adapter: ScaLoraSvd) -> FullGradientLinear:
    layer = adapter.layers["0"]
    assert isinstance(layer, FullGradientLinear)
    return layer


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (model(x) - y).square().sum() / len(x)


def full_gradient(model: nn.Module, layer: FullGradientLinear, x: Tensor, y: Tensor) -> Tensor:
    """∂loss/∂W by the formula of least squares."""
    with torch.no_grad():
        weight = layer.base.weight + layer.delta()
        assert layer.base.bias is not None
        return (x @ weight.t() + layer.base.bias - y).t() @ x / len(x)


def bound(gradient: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    moved = ETA * scale**2 * (gradient @ b @ b.t() + a @ a.t() @ gradient)
    return (gradient / SMOOTHNESS - moved).square().sum()


@pytest.fixture
def stepped() -> tuple[ScaLoraSvd, nn.Sequential, AdamW, Tensor, Tensor]:
    """After two steps, with moments in the optimizer."""
    model, x, y = problem()
    adapter = adapter_on(model)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=ETA)
    for step in range(2):
        loss_of(model, x, y).backward()
        adapter.before_step(optimizer, step)
        optimizer.step()
        optimizer.zero_grad()
    return adapter, model, optimizer, x, y


def test_no_factors_of_the_shape_do_better() -> None:
    adapter, generator = adapter_on(problem()[0]), seeded(1)
    gradient = torch.randn(OUT, IN, dtype=torch.float64, generator=generator)
    a, b = adapter.optimum(gradient)
    found = bound(gradient, a, b, adapter.scale).item()
    # Eckart and Young: what the best approximation of rank 2r leaves.
    left = torch.linalg.svdvals(gradient)[2 * RANK :].square().sum().item() / SMOOTHNESS**2
    assert found == pytest.approx(left, rel=1e-9)

    def objective(flat):
        point = torch.tensor(flat, requires_grad=True)
        value = bound(gradient, *(part.view(-1, RANK) for part in point.split([OUT * RANK, IN * RANK])), 1.0)
        value.backward()
        return value.item(), point.grad.numpy()

    searched = []
    for _ in range(8):
        start = torch.randn((OUT + IN) * RANK, dtype=torch.float64, generator=generator)
        searched.append(minimize(objective, start.numpy(), jac=True, method="L-BFGS-B", tol=1e-15).fun)
    assert min(searched) >= found * (1 - 1e-9)
    assert min(searched) == pytest.approx(found, rel=1e-4), "the search itself found the optimum"


@pytest.mark.parametrize("draw", range(5))
def test_scaled_columns_are_never_below_the_optimum(draw: int) -> None:
    adapter, generator = adapter_on(problem()[0]), seeded(draw)
    gradient, a, b = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((OUT, IN), (OUT, RANK), (IN, RANK))
    )
    best = bound(gradient, *adapter.optimum(gradient), adapter.scale)
    p, q = adapter.scale * gradient @ b, adapter.scale * gradient.t() @ a
    system = column_system(a[None], b[None], p[None], q[None], adapter.scale)
    bounds = {}
    for rule, v in (
        ("column", column_solution(*system)[0]),
        ("scalar", scalar_solution(*system).repeat_interleave(RANK, dim=1)),
    ):
        alpha, beta = (v[0].clamp(min=0) / (SMOOTHNESS * ETA)).sqrt().split(RANK)
        bounds[rule] = bound(gradient, a * alpha, b * beta, adapter.scale)
    assert best < bounds["column"]
    assert best < bounds["scalar"]


def test_gradient_descent_takes_the_best_step_of_rank_2r() -> None:
    model, x, y = problem()
    adapter = adapter_on(model)
    layer = layer_of(adapter)
    gradient = full_gradient(model, layer, x, y)
    loss_of(model, x, y).backward()
    before = adapter.weight("0")
    optimizer = torch.optim.SGD([layer.A, layer.B], lr=ETA)
    adapter.before_step(optimizer, 0)
    a, b, p, q = layer.A.clone(), layer.B.clone(), layer.A.grad, layer.B.grad
    optimizer.step()
    u, s, vt = torch.linalg.svd(gradient)
    best = (u[:, : 2 * RANK] * s[: 2 * RANK]) @ vt[: 2 * RANK] / SMOOTHNESS
    # What is left is the product of the two factors' steps, of second order in η.
    second = ETA**2 * adapter.scale * p @ q.t()
    torch.testing.assert_close(adapter.weight("0"), before - best + second, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        bound(gradient, a, b, adapter.scale), (gradient / SMOOTHNESS - best).square().sum()
    )


def test_the_function_stays_and_the_gradients_follow(stepped) -> None:
    adapter, model, optimizer, x, y = stepped
    layer = layer_of(adapter)
    expected = full_gradient(model, layer, x, y)
    loss_of(model, x, y).backward()
    torch.testing.assert_close(layer.gradient, expected, rtol=1e-12, atol=1e-14)
    before, old = model(x).detach(), layer.A.detach().clone()
    for factor in (layer.A, layer.B):  # as clipping does
        factor.grad.mul_(0.25)
    adapter.before_step(optimizer, 2)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-13)
    assert not torch.allclose(layer.A, old)
    clipped = layer.A.grad.clone(), layer.B.grad.clone()
    optimizer.zero_grad()
    loss_of(model, x, y).backward()
    torch.testing.assert_close(clipped, (0.25 * layer.A.grad, 0.25 * layer.B.grad), rtol=1e-10, atol=1e-13)


def test_moments_are_those_of_the_old_columns_combination(stepped, monkeypatch) -> None:
    """Where the new columns are combinations of the old, the chain rule is exact: a history of one
    gradient becomes what that gradient would have been for the new factors."""
    adapter, model, optimizer, x, y = stepped
    layer = layer_of(adapter)
    change = torch.tensor([[2.0, 0.0], [0.0, 0.5]], dtype=torch.float64)
    state = optimizer.state[layer.A]
    history = torch.randn(OUT, IN, dtype=torch.float64, generator=seeded(3))
    with torch.no_grad():
        state["exp_avg"].copy_(adapter.scale * history @ layer.B)
        state["exp_avg_sq"].copy_((adapter.scale * history @ layer.B).square())
        wanted = adapter.scale * history @ (layer.B @ change)
    mixed = layer.A.detach().clone(), (layer.B @ change).detach()
    monkeypatch.setattr(adapter, "optimum", lambda _: mixed)
    loss_of(model, x, y).backward()
    adapter.before_step(optimizer, 2)
    torch.testing.assert_close(state["exp_avg"], wanted)
    torch.testing.assert_close(state["exp_avg_sq"], wanted.square())


def test_micro_batches_add_up(stepped) -> None:
    adapter, model, _, x, y = stepped
    layer = layer_of(adapter)
    expected = full_gradient(model, layer, x, y)
    for part in (slice(0, 10), slice(10, 40)):
        (loss_of(model, x[part], y[part]) * len(x[part]) / len(x)).backward()
    torch.testing.assert_close(layer.gradient, expected, rtol=1e-12, atol=1e-14)
    adapter.before_step(AdamW([layer.A, layer.B]), 0)
    assert layer.gradient is None


@pytest.mark.parametrize("factor", [0.0, math.nan, math.inf])
def test_a_step_without_a_usable_gradient_leaves_the_function(stepped, factor: float) -> None:
    adapter, model, optimizer, x, y = stepped
    before = model(x).detach()
    (factor * loss_of(model, x, y)).backward()
    adapter.before_step(optimizer, 2)
    torch.testing.assert_close(model(x), before, rtol=1e-10, atol=1e-12)


def test_what_cannot_be_done_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AdapterError, match=r"rank 5 needs 10 singular directions.* at most 4"):
        adapter_on(problem()[0], rank=5)
    with pytest.raises(AdapterError, match="round small folds away"):
        adapter_on(problem()[0].to(torch.float16))
    with pytest.raises(AdapterError, match="smoothness must be a positive number"):
        adapter_on(problem()[0], smoothness=-1.0)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(AdapterError, match="run it in one"):
        adapter_on(problem()[0])


def test_fits_a_full_rank_change_that_lora_cannot() -> None:
    losses = {}
    for name in ("lora", "scalora-svd"):
        model, x, y = problem()
        values = {"learning_rate": ETA, "smoothness": SMOOTHNESS} if name == "scalora-svd" else {}
        adapter = adapters.create(name, rank=RANK, alpha=5.0, **values)
        adapter.attach(model, ["0"], heads=[], generator=seeded())
        optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=ETA, weight_decay=0)
        for step in range(300):
            loss = loss_of(model, x, y)
            loss.backward()
            adapter.before_step(optimizer, step)
            optimizer.step()
            optimizer.zero_grad()
        losses[name] = loss.item()
    weight, *_ = torch.linalg.lstsq(x, y - model[0].base.bias)
    least = 0.5 * (x @ weight + model[0].base.bias - y).square().sum().item() / len(x)
    assert losses["scalora-svd"] < least + 0.01
    assert losses["lora"] > least + 0.1
