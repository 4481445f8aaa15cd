"""LoRA-FA against PEFT's: its optimizer, and its layers with one factor frozen."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from peft.optimizers import create_lorafa_optimizer
from torch import Tensor, nn
from torch.optim import AdamW

from rankbench import adapters
from rankbench.adapters import Adapter
from rankbench.adapters.lora import LowRankLinear
from tests.adapters.steps import train
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model
from tests.examples import example

pytestmark = pytest.mark.numerical

STEPS = 6


def attached(**values: Any) -> tuple[Adapter, nn.Module]:
    """In float64, without a head, as PEFT has it."""
    model = tiny_model("bert", dtype=torch.float64)
    adapter = example("lora-fa", steps=STEPS, **{"rank": 4, "alpha": 12.0} | values)
    adapter.attach(model, TARGETS["bert"], heads=(), generator=seeded())
    return adapter, model


def pefts_lora(adapter: Adapter) -> peft.PeftModel:
    """PEFT's LoRA on the same model, with the same factors."""
    config = peft.LoraConfig(r=4, lora_alpha=12, target_modules=TARGETS["bert"])
    model = peft.get_peft_model(tiny_model("bert", dtype=torch.float64), config)
    for name, layer in adapter.layers.items():
        assert isinstance(layer, LowRankLinear)
        other: Any = model.base_model.model.get_submodule(name)
        other.lora_A["default"].weight.data = layer.B.detach().t().clone()
        other.lora_B["default"].weight.data = layer.A.detach().clone()
    return model


def trained_by_peft(model: peft.PeftModel, optimizer: torch.optim.Optimizer) -> list[float]:
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        value = model.base_model.model(**tiny_batch(model.base_model.model, step)).loss
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def without_rounding(parameters: Any) -> AdamW:
    """PEFT's optimizer has its epsilon elsewhere in the formula: both go without."""
    return AdamW([p for p in parameters if p.requires_grad], lr=1e-2, eps=0.0, weight_decay=0.0)


def test_it_is_lora_with_one_factor_frozen() -> None:
    adapter, ours = attached()
    theirs = pefts_lora(adapter)
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    losses = train(adapter, ours, without_rounding(ours.parameters()), range(STEPS))
    assert losses == pytest.approx(trained_by_peft(theirs, without_rounding(theirs.parameters())), rel=1e-10)
    assert adapter.parameter_counts()["trainable"] == theirs.get_nb_trainable_parameters()[0]


def test_with_its_correction_it_trains_as_pefts_optimizer_does() -> None:
    adapter, ours = attached(correction=True)
    theirs = pefts_lora(adapter)
    optimizer = create_lorafa_optimizer(theirs, r=4, lora_alpha=12, lr=1e-2)
    optimizer.param_groups[0]["eps"] = 0.0
    losses = train(adapter, ours, without_rounding(ours.parameters()), range(STEPS))
    assert losses == pytest.approx(trained_by_peft(theirs, optimizer), rel=1e-6)
    plain, model = attached()
    assert losses[2:] != pytest.approx(
        train(plain, model, without_rounding(model.parameters()), range(STEPS))[2:], rel=1e-6
    )


def test_the_corrected_step_is_the_closest_to_the_full_gradient() -> None:
    """Of all D: s D Bᵀ closest to G, by least squares."""
    layer = nn.Linear(7, 5, bias=False).double()
    model = nn.Sequential(layer)
    adapter = adapters.create("lora-fa", rank=3, alpha=12.0, correction=True)
    adapter.attach(model, ["0"], heads=(), generator=seeded())
    wrapped = adapter.layers["0"]
    assert isinstance(wrapped, LowRankLinear)
    x, target = (torch.randn(9, n, dtype=torch.float64, generator=seeded(n)) for n in (7, 5))
    (model(x) * target).sum().backward()
    adapter.before_step(AdamW(model.parameters()), 0)
    best = torch.linalg.lstsq(4.0 * wrapped.B, (target.t() @ x).t()).solution.t()
    torch.testing.assert_close(wrapped.A.grad, best)


def kept_bytes(name: str, model: nn.Module, x: Tensor) -> int:
    """What the backward pass of one layer needs to be kept, without its frozen weight."""
    adapter = example(name, steps=1)
    adapter.attach(model, ["0"], heads=(), generator=seeded())
    kept: dict[int, int] = {}
    frozen = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(x)
    return sum(kept.values())


def test_what_came_in_is_not_kept_for_the_backward_pass() -> None:
    """Its saving: not x (tokens, in), only x B (tokens, rank)."""
    x = torch.randn(500, 64)
    lora, lora_fa = (kept_bytes(name, nn.Sequential(nn.Linear(64, 32)), x) for name in ("lora", "lora-fa"))
    assert lora - lora_fa == pytest.approx(x.nbytes, rel=0.01)


def test_the_frozen_factor_is_a_part_of_the_state() -> None:
    adapter, _ = attached()
    names = [name for name in adapter.state_dict()["tensors"] if name.endswith(".B")]
    assert len(names) == len(adapter.layers)
