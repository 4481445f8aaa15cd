"""Adapters beside frozen weights in four bits: products, merged weights and refusals, against plain layers of
what was packed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rankbench import adapters
from rankbench.adapters.peft.support import IN_FOUR_BITS
from rankbench.adapters.quantised import count, unpack, unpacked
from tests.conftest import seeded
from tests.peft_methods import METHODS

bitsandbytes = pytest.importorskip("bitsandbytes")

OURS = ["lora", "rslora", "lora-plus", "lora-fa", "reflora", "lora2"]
PEFTS = ["dora", "adalora", "hira", "eva"]
REFUSED = {
    "full": "it trains every weight",
    "scalora": "leave `weights` out",
    "scalora-svd": "leave `weights` out",
    "pissa": "its start (pissa) factorises the frozen weights; take bfloat16",
    "olora": "its start (olora) factorises the frozen weights; take bfloat16",
    "lora-ga": "take bfloat16",
    "vera": "PEFT's VERA does not train over four bits; take bfloat16",
    "randlora": "PEFT's RANDLORA does not train over four bits",
    "oft": "PEFT's OFT does not train",
    "shira": "PEFT's SHIRA does not train",
}
NEEDED = {"ADALORA": {"total_step": 20}, "IA3": {"feedforward_modules": ["o_proj"]}}
"""What PEFT asks for, of a model that it does not know."""
NF4 = torch.tensor(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
        -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
        0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
        0.7229568362236023, 1.0,
    ]
)  # fmt: skip
"""The sixteen values of QLoRA's appendix E (arXiv 2305.14314)."""


class Stack(nn.Module):
    """Two layers that read one input, and one behind them."""

    is_loaded_in_4bit = True

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(32, 48), nn.Linear(32, 48, bias=False)
        self.o_proj = nn.Linear(48, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o_proj(torch.tanh(self.q_proj(x)) * self.k_proj(x))


def in_four_bits() -> tuple[Stack, Stack]:
    """A model, and the same one unpacked: plain bfloat16 layers."""
    torch.manual_seed(0)
    packed = Stack().bfloat16()
    for name, layer in list(packed.named_children()):
        made = bitsandbytes.nn.Linear4bit(
            layer.in_features, layer.out_features, layer.bias is not None,
            compute_dtype=torch.bfloat16, compress_statistics=False, quant_type="nf4", device="meta",
        )  # fmt: skip
        made.weight = bitsandbytes.nn.Params4bit(
            layer.weight.data, quant_type="nf4", compress_statistics=False, module=made
        ).to("cpu")
        made.bias = layer.bias
        made.support_avx512bf16_for_cpu = False
        setattr(packed, name, made)
    plain = copy.deepcopy(packed)
    unpack(plain)
    return packed, plain


def attached(name: str, model: nn.Module) -> adapters.Adapter:
    kind = adapters.kind(name)
    known = {"total_steps": 20} if "total_steps" in adapters.hyperparameters(name) else {}
    adapter = adapters.create(name, **kind.example, **known)
    adapter.attach(model, ["q_proj", "k_proj", "o_proj"], heads=[], generator=seeded(1))
    return adapter


def moved(adapter: adapters.Adapter) -> None:
    """As if it had been trained."""
    draw, size = seeded(2), 0.5 if adapter.name == "lora2" else 0.1  # a product of five
    with torch.no_grad():
        for parameter in adapter.trained():
            parameter.add_(size * torch.randn(parameter.shape, generator=draw))


def rows() -> torch.Tensor:
    return torch.randn(2, 7, 32, generator=seeded(3)).bfloat16()


def test_what_is_unpacked_is_nearest_in_each_block():
    weight = torch.randn(8, 64, generator=seeded(0)).bfloat16()
    made = bitsandbytes.nn.Params4bit(weight, quant_type="nf4", compress_statistics=False).to("cpu")
    scales = weight.float().abs().amax(dim=1, keepdim=True)  # a block is 64 numbers: a row
    nearest = (weight.float() / scales)[..., None].sub(NF4).abs().argmin(dim=-1)
    found = unpacked(made)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, (NF4[nearest] * scales).bfloat16())
    assert (count(made), made.numel()) == (512, 256)


@pytest.mark.parametrize("name", OURS)
def test_ours_computes_as_beside_the_unpacked_weights(name):
    packed, plain = in_four_bits()
    found = []
    for model in (packed, plain):
        adapter = attached(name, model)
        moved(adapter)
        x = rows().requires_grad_(True)
        y = model(x)
        y.float().square().sum().backward()
        assert all(p.dtype == torch.float32 for p in adapter.trained())
        found.append([y, x.grad, *(p.grad for p in adapter.trained())])
    assert found[0][0].dtype == torch.bfloat16
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("name", [*OURS, *PEFTS])
def test_merging_puts_a_plain_bfloat16_layer_there(name):
    packed, plain = in_four_bits()
    adapter = attached(name, packed)
    packed.eval()
    before = packed(rows()).float()
    moved(adapter)
    changed = packed(rows()).float()
    assert (changed - before).norm() > 0.01 * before.norm()
    weights = {layer: adapter.weight(layer) for layer in adapter.layers}
    adapter.merge(packed)
    for layer, exact in weights.items():
        module = packed.get_submodule(layer)
        assert type(module) is nn.Linear
        assert torch.equal(module.weight, exact.bfloat16())
        assert not torch.equal(module.weight, plain.get_submodule(layer).weight)
    # Two more roundings of each layer's weight and increment.
    assert (packed(rows()).float() - changed).norm() < 0.02 * changed.norm()


@pytest.mark.parametrize("name", ["lora", "dora"])
def test_merging_in_float32_rounds_nothing(name):
    packed, plain = in_four_bits()
    adapter = attached(name, packed)
    moved(adapter)
    weights = {layer: adapter.weight(layer) for layer in adapter.layers}
    merged = adapter.merge(packed, dtype=torch.float32)
    assert all(torch.equal(merged.get_submodule(layer).weight, exact) for layer, exact in weights.items())
    assert adapter.rounding == 0
    exact = plain.q_proj.weight.float()
    assert (merged.q_proj.weight - exact).norm() > 0


def test_an_increment_is_added_to_what_was_packed():
    packed, plain = in_four_bits()
    adapter = attached("lora", packed)
    moved(adapter)
    layer = packed.q_proj
    expected = plain.q_proj.weight.float() + adapter.scale * (layer.A @ layer.B.t())
    torch.testing.assert_close(adapter.weight("q_proj"), expected, rtol=1e-6, atol=1e-6)


def test_peft_layers_are_read_off_exactly():
    """The merged weight against PEFT's formula: W + s B A."""
    packed, plain = in_four_bits()
    adapter = adapters.create("peft", config={"peft_type": "LORA", "r": 2, "lora_alpha": 4})
    adapter.attach(packed, ["q_proj", "k_proj", "o_proj"], heads=[], generator=seeded(1))
    moved(adapter)
    inside = packed.q_proj
    product = inside.lora_B["default"].weight @ inside.lora_A["default"].weight
    torch.testing.assert_close(adapter.weight("q_proj"), plain.q_proj.weight.float() + 2 * product)
    adapter.merge(packed)
    torch.testing.assert_close(packed.q_proj.bias, plain.q_proj.bias)


@pytest.mark.parametrize("method", sorted(IN_FOUR_BITS))
def test_every_method_of_pefts_that_is_said_to_trains(method):
    """Factors in float32, a loss that falls, and a merged model that answers as before."""
    packed, _ = in_four_bits()
    adapter = adapters.create("peft", config=METHODS[method] | NEEDED.get(method, {}))
    adapter.attach(packed, ["q_proj", "k_proj", "o_proj"], heads=[], generator=seeded(1))
    optimizer = torch.optim.AdamW(adapter.trained(), lr=0.05)
    losses = []
    for step in range(20):
        loss = (packed(rows()).float() - 0.3).square().mean()
        loss.backward()
        optimizer.step()
        adapter.after_step(optimizer, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert {parameter.dtype for parameter in adapter.trained()} == {torch.float32}
    packed.eval()
    expected = packed(rows()).float()
    adapter.merge(packed)
    assert (packed(rows()).float() - expected).norm() < 0.02 * expected.norm()


def test_sizes_are_of_the_numbers_and_not_of_their_bytes():
    packed, plain = in_four_bits()
    assert attached("lora", packed).parameter_counts() == attached("lora", plain).parameter_counts()


@pytest.mark.parametrize(("name", "why"), REFUSED.items())
def test_what_cannot_is_refused_in_a_line_with_the_way_out(name, why):
    packed, _ = in_four_bits()
    held = [type(module) for module in packed.modules()]
    with pytest.raises(adapters.AdapterError) as caught:
        attached(name, packed)
    assert str(caught.value).startswith(f"{name} on q_proj: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [type(module) for module in packed.modules()] == held


def test_every_registered_adapter_is_one_or_the_other():
    tried = {*OURS, *PEFTS, *REFUSED, "peft"}
    for name in set(adapters.BUILT_IN) - tried:
        known = {"total_steps": 20} if "total_steps" in adapters.hyperparameters(name) else {}
        made = adapters.create(name, **adapters.kind(name).example, **known)
        assert made.why_not_over("nf4"), name
