"""LoRA and rsLoRA against PEFT's, and the layers they share with others."""

from __future__ import annotations

import math
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from transformers.pytorch_utils import Conv1D

from rankbench import adapters
from rankbench.adapters.layers import weight_of
from rankbench.adapters.lora import LowRankLinear
from rankbench.adapters.products import low_rank_linears
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model

pytestmark = pytest.mark.numerical


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize(("name", "rslora"), [("lora", False), ("rslora", True)])
def test_equals_peft_step_for_step(name: str, rslora: bool, architecture: str) -> None:
    ours = tiny_model(architecture, dtype=torch.float64)
    adapter = adapters.create(name, rank=4, alpha=12)
    adapter.attach(ours, TARGETS[architecture], generator=seeded())
    theirs = tiny_model(architecture, dtype=torch.float64)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        use_rslora=rslora,
        target_modules=list(TARGETS[architecture]),
        fan_in_fan_out=architecture == "gpt2",
    )
    peft.inject_adapter_in_model(config, theirs)
    pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
    for layer_name, layer in adapter.layers.items():
        other: Any = theirs.get_submodule(layer_name)
        assert isinstance(layer, LowRankLinear)
        other.lora_A["default"].weight.data = layer.B.detach().t().clone().contiguous()
        other.lora_B["default"].weight.data = layer.A.detach().clone()
        pairs += [(layer.A, other.lora_B["default"].weight), (layer.B, other.lora_A["default"].weight)]
    models = [ours, theirs]
    for head in adapter.heads:
        theirs.get_submodule(head).requires_grad_(True)
    optimizers = [AdamW([p for p in m.parameters() if p.requires_grad], lr=1e-2) for m in models]
    for step in range(20):
        losses = []
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            loss = model(**tiny_batch(model, step)).loss
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    for a_or_b, peft_weight in pairs:
        same_way = peft_weight if a_or_b.shape == peft_weight.shape else peft_weight.t()
        torch.testing.assert_close(a_or_b, same_way, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("base", [nn.Linear(5, 4), nn.Linear(5, 4, bias=False), Conv1D(4, 5)])
def test_the_fast_product_has_the_right_derivatives(base: nn.Linear | Conv1D) -> None:
    base.double().requires_grad_(False)
    x, a, b = (
        torch.randn(*shape, dtype=torch.float64, generator=seeded(i)).requires_grad_(True)
        for i, shape in enumerate([(2, 3, 5), (4, 2), (5, 2)])
    )

    def formula(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return base(x) + 0.7 * x @ b @ a.t()

    def fast(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return low_rank_linears(x, [(base, a, b, 0.7)])[0]

    torch.testing.assert_close(fast(x, a, b), formula(x, a, b))
    assert torch.autograd.gradcheck(fast, (x, a, b))
    found = torch.autograd.grad(fast(x, a, b).square().sum(), (x, a, b))
    torch.testing.assert_close(found, torch.autograd.grad(formula(x, a, b).square().sum(), (x, a, b)))


@pytest.mark.parametrize(("name", "scale"), [("lora", 16 / 4), ("rslora", 16 / math.sqrt(4))])
def test_layers_can_be_checked_from_outside(name: str, scale: float) -> None:
    model = tiny_model("gpt2", dtype=torch.float64)
    adapter = adapters.create(name, rank=4, alpha=16)
    adapter.attach(model, ["c_attn"], generator=seeded())
    layer = adapter.layers["transformer.h.0.attn.c_attn"]
    assert isinstance(layer, LowRankLinear)
    assert isinstance(layer.base, Conv1D)
    assert layer.A.shape == (96, 4)
    assert layer.B.shape == (32, 4)
    assert layer.scale == scale
    assert not layer.A.any()
    assert 0.9 / math.sqrt(32) < float(layer.B.detach().abs().max()) <= 1 / math.sqrt(32)
    nn.init.normal_(layer.A)
    torch.testing.assert_close(layer.delta(), scale * layer.A @ layer.B.t())
    x = torch.randn(3, 32, dtype=torch.float64)
    expected = x @ (weight_of(layer.base) + layer.delta()).t() + layer.base.bias
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(
        adapter.weight("transformer.h.0.attn.c_attn"), layer.base.weight.t() + layer.delta()
    )


def test_merge_equals_unmerged_in_double_precision() -> None:
    model = tiny_model("gpt2", dtype=torch.float64)
    adapter = adapters.create("rslora", rank=4)
    adapter.attach(model, TARGETS["gpt2"], generator=seeded())
    for layer in adapter.layers.values():
        assert isinstance(layer, LowRankLinear)
        nn.init.normal_(layer.A, std=0.1)
    with torch.no_grad():
        before = model(**tiny_batch(model)).logits
        adapter.merge(model)
        after = model(**tiny_batch(model)).logits
    torch.testing.assert_close(after, before, rtol=1e-11, atol=1e-12)
    assert not any(isinstance(module, LowRankLinear) for module in model.modules())


def test_autocast_computes_in_bfloat16_and_trains_in_float32() -> None:
    model = nn.Sequential(nn.Linear(16, 12))
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["0"], generator=seeded())
    layer = adapter.layers["0"]
    assert isinstance(layer, LowRankLinear)
    nn.init.normal_(layer.A)
    x = torch.randn(4, 16, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    # bfloat16 rounds by up to 2⁻⁹: x, a weight, what is between the factors, each part, and their sum.
    with torch.no_grad():
        within = layer.base.weight.abs() + layer.scale * layer.A.abs() @ layer.B.abs().t()
        terms = x.abs() @ within.t() + layer.base.bias.abs()
        assert ((y.float() - model(x)).abs() <= 6 * 2**-9 * terms).all()
    assert layer.A.grad is not None
    assert layer.A.grad.dtype == torch.float32
    assert layer.base.weight.grad is None


def test_a_half_precision_model_keeps_full_precision_factors() -> None:
    model = nn.Sequential(nn.Linear(16, 12)).to(torch.bfloat16)
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["0"], generator=seeded())
    layer = adapter.layers["0"]
    assert isinstance(layer, LowRankLinear)
    assert layer.A.dtype == torch.float32
    assert model(torch.randn(4, 16, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_what_the_model_itself_saves_is_a_part_of_the_state() -> None:
    """Running means, outside of all layers that are adapted: another model would be resumed and scored."""

    def adapted() -> tuple[nn.Module, adapters.Adapter]:
        model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
        adapter = adapters.create("lora", rank=2)
        adapter.attach(model, ["1"], generator=seeded())
        return model, adapter

    torch.manual_seed(0)
    (model, adapter), x = adapted(), 3 + torch.randn(16, 4)
    torch.manual_seed(0)
    other, again = adapted()
    model(x)
    assert not torch.equal(model.eval()(x), other.eval()(x))
    again.load_state_dict(adapter.state_dict())
    assert torch.equal(model.eval()(x), other.eval()(x))
