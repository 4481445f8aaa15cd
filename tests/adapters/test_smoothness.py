"""ScaLoRA's `smoothness: auto`: the rule, and that it is decided once."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from rankbench import adapters
from rankbench.adapters.scalora.adapter import ScaLora
from rankbench.adapters.scalora.nnls import KEPT
from rankbench.bench.records import fingerprint
from tests.adapters.steps import train
from tests.adapters.test_scalora import VARIANTS, attached, backward, layers
from tests.bench.test_step_counts import SYNCHRONISING, Counts
from tests.conftest import seeded

pytestmark = pytest.mark.numerical


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("name", [*VARIANTS, "scalora-i"])
def test_leaves_the_typical_column(name: str, moved: bool) -> None:
    """The geometric mean of the first scales is 1: of B's alone while A is zero."""
    adapter, model, optimizer = attached(name, smoothness="auto")
    generator = seeded()
    for layer in layers(adapter).values():
        if moved:
            layer.A.data.normal_(std=0.01, generator=generator)
    old = [factor.detach().clone() for layer in layers(adapter).values() for factor in layer.factors()]
    backward(model, 0)
    adapter.before_step(optimizer, 0)
    new = [factor.detach() for layer in layers(adapter).values() for factor in layer.factors()]
    before, after = (torch.cat([factor.norm(dim=0) for factor in factors]) for factors in (old, new))
    # What is less than a hundredth is a trace, in the place of nothing.
    ratio = (after / before)[(before > 0) & (after > before / 100)]
    assert len(ratio) >= len(before) / 4
    assert float(ratio.log().mean()) == pytest.approx(0, abs=1e-9)
    assert ratio.std() > 0


@pytest.mark.parametrize(
    ("name", "first"),
    [("scalora-scalar", [2 / 13] * 2), ("scalora", [2 / 13] * 2), ("scalora-nnls", [1 / 2, 0])],
)
def test_a_column_of_no_use_does_not_count(name: str, first: list[float]) -> None:
    """Two layers of gradient e₁gᵀ, A zero: the bound is that of g by β₁²c₁ + β₂²c₂, with cᵢ = (g·bᵢ)bᵢ.

    One layer has g = (1, 0), c₁ = (1, 1), c₂ = (1, 2): unrestricted v = (2, -1), the optimum (1/2, 0),
    with one scale for both 2/13. The other has g = (1, 1) and the axes for c: v = (1, 1). All over s².
    """
    adapter = adapters.create(name, rank=2, alpha=3.0, smoothness="auto", learning_rate=0.05)
    assert isinstance(adapter, ScaLora)
    adapter.attach(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).double(), ["0", "1"])
    columns = torch.tensor([[[1.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    for layer, b, g in zip(layers(adapter).values(), columns, ([1.0, 0.0], [1.0, 1.0]), strict=True):
        gradient = torch.tensor([g, [0.0, 0.0]], dtype=torch.float64)
        layer.B.data = b.t().contiguous()
        layer.A.grad, layer.B.grad = 1.5 * gradient @ layer.B.data, torch.zeros_like(layer.B)
    v = [entry / 1.5**2 for entry in (*first, 1.0, 1.0)]
    positive = [entry for entry in v if entry]
    smoothness = math.prod(positive) ** (1 / len(positive)) / 0.05
    adapter.before_step(SGD([layer.A for layer in layers(adapter).values()]), 0)
    assert adapter.diagnostics()["smoothness"] == pytest.approx(smoothness, rel=1e-12)
    v[1] = v[1] or KEPT / 5 / 1.5**2  # the trace: of what c₂ would be alone, c₂·g / c₂·c₂
    for layer, b, entries in zip(layers(adapter).values(), columns, (v[:2], v[2:]), strict=True):
        squared = torch.tensor(entries, dtype=torch.float64) / (smoothness * 0.05)
        torch.testing.assert_close(layer.B.data, b.t() * squared.sqrt(), rtol=1e-9, atol=0)


def test_is_chosen_once_and_reported() -> None:
    adapter, model, optimizer = attached(smoothness="auto", interval=2)
    train(adapter, model, optimizer, range(1))
    chosen = adapter.diagnostics()["smoothness"]
    assert chosen > 0
    train(adapter, model, optimizer, range(1, 5))
    assert adapter.diagnostics()["smoothness"] == chosen
    assert adapter.settings()["smoothness"] == "auto"
    prints = {fingerprint(attached(smoothness=value)[0].settings()) for value in ("auto", 100.0, 10.0)}
    assert len(prints) == 3
    assert "smoothness" not in attached()[0].diagnostics()


def test_is_a_fixed_one_found_without_a_sweep() -> None:
    def trained(**values: Any) -> tuple[ScaLora, dict[str, Tensor]]:
        adapter, model, optimizer = attached(**values)
        train(adapter, model, optimizer, range(4))
        return adapter, adapter.state_dict()["tensors"]

    adapter, automatic = trained(smoothness="auto")
    fixed = trained(smoothness=adapter.diagnostics()["smoothness"])[1]
    faster, same = trained(smoothness="auto", learning_rate=2e-2)
    assert faster.diagnostics()["smoothness"] == pytest.approx(adapter.diagnostics()["smoothness"] / 2)
    for key, tensor in automatic.items():
        torch.testing.assert_close(tensor, fixed[key], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(tensor, same[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*VARIANTS, "scalora-i"])
def test_survives_a_resume(name: str) -> None:
    adapter, model, optimizer = attached(name, smoothness="auto", interval=2)
    train(adapter, model, optimizer, range(3))
    state, moments = adapter.state_dict(), copy.deepcopy(optimizer.state_dict())
    train(adapter, model, optimizer, range(3, 7))
    other, fresh, resumed = attached(name, smoothness="auto", interval=2)
    other.load_state_dict(state)
    resumed.load_state_dict(moments)
    train(other, fresh, resumed, range(3, 7))
    for key, tensor in adapter.state_dict()["tensors"].items():
        assert torch.equal(tensor, other.state_dict()["tensors"][key])
    assert other.diagnostics() == adapter.diagnostics()


def test_without_a_direction_is_the_default() -> None:
    adapter, model, optimizer = attached(smoothness="auto")
    backward(model, 0)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()
    adapter.before_step(optimizer, 0)
    assert adapter.diagnostics()["smoothness"] == 100.0


@pytest.mark.parametrize("name", VARIANTS)
def test_does_not_wait_for_the_device(name: str) -> None:
    adapter, model, optimizer = attached(name, smoothness="auto")
    for step in range(2):
        backward(model, step)
        with Counts([]) as counts:
            adapter.before_step(optimizer, step)
        optimizer.step()
        assert counts.kernels
        assert not any(counts.kernels[kind] for kind in SYNCHRONISING)


def test_a_misspelt_smoothness_is_refused() -> None:
    with pytest.raises(adapters.AdapterError, match="a positive number or 'auto', not 'atuo'"):
        adapters.create("scalora", smoothness="atuo")
