"""What merging loses to rounding, by closed forms, and how to lose nothing."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from rankbench import adapters
from rankbench.adapters import Adapter, AdapterError
from rankbench.adapters.layers import Linear
from rankbench.adapters.lora import Lora, LowRankLinear
from tests.adapters.steps import optimizer_for, train
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model
from tests.examples import example

ULP = 2.0**-7
"""The distance of bfloat16 numbers between 1 and 2."""


def rank_one(dtype: torch.dtype, increment: float, start: float = 1.0) -> tuple[Adapter, nn.Module]:
    """A layer whose weights are all `start` under LoRA that adds `increment` to each."""
    model = nn.ModuleDict({"fc": nn.Linear(8, 8, bias=False)}).to(dtype)
    nn.init.constant_(model["fc"].weight, start)
    adapter = adapters.create("lora", rank=1, alpha=1.0)
    adapter.attach(model, "fc", generator=seeded())
    layer: Any = adapter.layers["fc"]
    layer.A.data.fill_(increment)
    layer.B.data.fill_(1.0)
    return adapter, model


@pytest.mark.parametrize(
    ("increment", "merged", "lost"),
    [
        (ULP / 4, 1.0, 1.0),
        (3 * ULP / 4, 1.0 + ULP, 1 / 3),
        (ULP, 1.0 + ULP, 0.0),
        (5 * ULP / 4, 1.0 + ULP, 1 / 5),
        (0.0, 1.0, 0.0),
    ],
)
def test_bfloat16_rounds_once_and_says_what_is_lost(increment: float, merged: float, lost: float) -> None:
    adapter, model = rank_one(torch.bfloat16, increment)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adapter.merge(model)
    assert adapter.rounding == pytest.approx(lost, abs=1e-6)
    weight = model.get_parameter("fc.weight")
    assert weight.dtype == torch.bfloat16
    assert torch.equal(weight, torch.full_like(weight, merged))
    told = [str(w.message) for w in caught]
    assert len(told) == (lost > 0)
    if told:
        assert f"rounded away {lost:.1%} of what was trained; merge(model, dtype=torch.float32)" in told[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_wider_merge_keeps_the_increment(dtype: torch.dtype) -> None:
    adapter, model = rank_one(torch.bfloat16, ULP / 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter.merge(model, dtype=dtype)
    weight = model.get_parameter("fc.weight")
    assert torch.equal(weight, torch.full((8, 8), 1 + ULP / 4, dtype=dtype))
    assert adapter.rounding == 0.0


def test_float32_can_be_widened_too() -> None:
    adapter, model = rank_one(torch.float32, 2.0**-30)
    adapter.merge(model, dtype=torch.float64)
    assert float(model.get_parameter("fc.weight")[0, 0]) == 1 + 2.0**-30


def test_a_narrower_merge_is_refused_and_changes_nothing() -> None:
    adapter, model = rank_one(torch.float32, 0.5)
    with pytest.raises(AdapterError, match="cannot hold; merge first, then convert"):
        adapter.merge(model, dtype=torch.float16)
    assert list(adapter.layers) == ["fc"]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def distinct(model: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(**tiny_batch(model)).logits
    return logits.double()


@pytest.mark.parametrize("name", ["lora", "lora2", "dora", "hira", "adalora"])
def test_a_half_precision_model_merges_wide_as_it_was_trained(name: str) -> None:
    """The factors are trained in float32 beside bfloat16 weights: nothing of them is lost."""
    model = tiny_model("bert", dtype=torch.bfloat16)
    adapter = example(name, steps=10)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.requires_grad and "classifier" not in key:
                parameter.add_(torch.randn(parameter.shape, generator=seeded(1)) * 1e-3)
    exact = {name: adapter.weight(name).double() for name in adapter.layers}
    before = {name: adapter.plain(name).weight.detach().double() for name in adapter.layers}
    adapter.merge(model, dtype=torch.float64)
    for layer, weight in exact.items():
        merged = model.get_parameter(f"{layer}.weight")
        torch.testing.assert_close(merged, weight, rtol=1e-6, atol=1e-7)
        assert not torch.equal(merged, before[layer])


def test_every_rounding_of_a_model_counts() -> None:
    """Over all layers: the root of the summed squares, so a layer that loses all is not hidden."""
    model = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)}).bfloat16()
    for layer in model.values():
        nn.init.ones_(layer.weight)
    adapter = adapters.create("lora", rank=1, alpha=1.0)
    adapter.attach(model, ["a", "b"], generator=seeded())
    for layer, increment in ((adapter.layers["a"], ULP / 4), (adapter.layers["b"], ULP)):
        factors: Any = layer
        factors.A.data.fill_(increment)
        factors.B.data.fill_(1.0)
    with pytest.warns(UserWarning, match="rounded away"):
        adapter.merge(model)
    assert adapter.rounding == pytest.approx((1 / 17) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("name", ["lora", "dora", "scalora", "scalora-svd", "pissa", "olora"])
def test_a_lost_share_is_of_all_that_was_trained_or_not_told(name: str) -> None:
    """What a fold or a start has taken out of a weight is in the increment again: beside that, which is as
    large as the weights, little seemed lost (of ScaLoRA 0.07 % for 1.6 % after five steps)."""
    model = tiny_model("bert", dtype=torch.bfloat16)
    pretrained = {key: parameter.detach().double() for key, parameter in model.named_parameters()}
    adapter = example(name, steps=5)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    train(adapter, model, optimizer_for(model), range(3))
    lost = trained = 0.0
    for layer in adapter.layers:
        weight = adapter.weight(layer).double()
        lost += float((weight - weight.bfloat16()).square().sum())
        trained += float((weight - pretrained[f"{layer}.weight"]).square().sum())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adapter.merge(model)
    if name in ("lora", "dora"):
        assert adapter.rounding == pytest.approx((lost / trained) ** 0.5, rel=1e-4)
    else:
        assert adapter.rounding is None
        assert f"rounded weights that {name} has moved" in str(caught[-1].message)


class Dropping(LowRankLinear):
    """Dropout on a factor, as a plug-in has it."""

    def __init__(self, *made: Any) -> None:
        super().__init__(*made)
        self.drop = nn.Dropout(0.5)

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.A, self.drop(self.B)


class DroppingLora(Lora):
    def wrap(self, linear: Linear, generator: Generator | None) -> LowRankLinear:
        return Dropping(linear, self.rank, self.scale, generator)


def test_no_dropout_is_drawn_into_a_weight() -> None:
    """A run merges, and looks at ranks, while its model is in training mode."""
    model = nn.ModuleDict({"fc": nn.Linear(8, 6)})
    adapter = DroppingLora(rank=4)
    adapter.attach(model, "fc", generator=seeded())
    layer: Any = adapter.layers["fc"]
    layer.A.data.normal_(generator=seeded(1))
    expected = layer.base.weight.detach() + adapter.scale * layer.A.detach() @ layer.B.detach().t()
    layer.base.eval()
    generator = torch.get_rng_state()
    torch.testing.assert_close(adapter.weight("fc"), expected)
    assert [layer.training, layer.drop.training, layer.base.training] == [True, True, False]
    adapter.merge(model)
    torch.testing.assert_close(model.get_parameter("fc.weight").detach(), expected)
    assert torch.equal(torch.get_rng_state(), generator)
    assert not model["fc"].training, "the plain layer is as it was"
