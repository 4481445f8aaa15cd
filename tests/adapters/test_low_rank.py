"""Layers that read one input: computed together, equal to each alone, never stale."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from io import BytesIO

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from rankbench import adapters
from rankbench.adapters.low_rank import LowRankLayer
from rankbench.adapters.products import low_rank_linears
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model
from tests.examples import example

pytestmark = pytest.mark.numerical


class Attention(nn.Module):
    """Three projections that read one tensor, in BERT's names and order."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(6, 4), nn.Linear(6, 5), nn.Linear(6, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.query(x), self.key(x), self.value(x)], dim=-1)


def adapted(name: str = "lora") -> Attention:
    torch.manual_seed(0)
    model = Attention().double()
    adapters.create(name, rank=2).attach(model, ["query", "key", "value"], generator=seeded())
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    return model


def plain(model: Attention) -> nn.Module:
    """The same function by merged weights."""
    merged = Attention().double()
    for name in ("query", "key", "value"):
        layer = getattr(model, name)
        linear = getattr(merged, name)
        linear.weight.data = layer.base.weight + layer.delta()
        if layer.base.bias is not None:
            linear.bias.data = layer.base.bias
    return merged


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(3))


def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many layers each product computed."""
    seen: list[int] = []

    def counting(x: Tensor, layers: Sequence[tuple[nn.Linear, Tensor, Tensor, float]]) -> tuple[Tensor, ...]:
        seen.append(len(layers))
        return low_rank_linears(x, layers)

    monkeypatch.setattr("rankbench.adapters.low_rank.low_rank_linears", counting)
    return seen


def test_products_together_have_the_right_derivatives() -> None:
    bases = [nn.Linear(5, 4), nn.Linear(5, 3, bias=False), nn.Linear(5, 4)]
    x = draw(2, 3, 5).requires_grad_(True)
    factors = []
    for i, base in enumerate(bases):
        base.double().requires_grad_(False)
        factors += [draw(base.out_features, i + 1), draw(5, i + 1)]
    for factor in factors:
        factor.requires_grad_(True)

    def together(x: Tensor, *factors: Tensor) -> tuple[Tensor, ...]:
        return low_rank_linears(
            x, [(base, factors[2 * i], factors[2 * i + 1], 0.5 + i) for i, base in enumerate(bases)]
        )

    for i, (base, y) in enumerate(zip(bases, together(x, *factors), strict=True)):
        a, b = factors[2 * i : 2 * i + 2]
        torch.testing.assert_close(y, base(x) + (0.5 + i) * x @ b @ a.t())
    assert torch.autograd.gradcheck(together, (x, *factors))


@pytest.mark.parametrize("name", ["lora", "lora2"])
def test_siblings_share_one_product(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls(monkeypatch)
    adapter = example(name, steps=9)
    model = Attention().double()
    adapter.attach(model, ["query", "key", "value"], generator=seeded())
    model(draw(2, 6))
    assert seen == [3]


def test_shared_outputs_and_gradients_are_those_of_the_merged_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls(monkeypatch)
    model = adapted()
    x = draw(2, 3, 6).requires_grad_(True)
    y = x.detach().clone().requires_grad_(True)
    model(x).square().sum().backward()
    plain(model)(y).square().sum().backward()
    assert seen == [3]
    torch.testing.assert_close(x.grad, y.grad)


def test_an_output_is_never_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted()
    layers = [model.query, model.key, model.value]
    x = draw(2, 6)

    def fresh(layer: LowRankLayer) -> None:
        expected = x @ (layer.base.weight + layer.delta()).t()
        torch.testing.assert_close(
            layer(x), expected if layer.base.bias is None else expected + layer.base.bias
        )

    model.query(x)  # key and value wait
    with torch.no_grad():
        model.key.A.mul_(2)
    fresh(model.key)
    model.query(x)
    x.mul_(3)
    fresh(model.value)
    model.query(x)
    x = draw(2, 6) + 1
    for layer in layers:
        fresh(layer)
    model.query(x)
    with torch.no_grad():
        assert not model.key(x).requires_grad
    for layer in reversed(layers):
        fresh(layer)


def test_layers_that_get_different_inputs_are_computed_alone() -> None:
    model = adapted()
    x, z = draw(2, 6), draw(2, 6) + 1
    merged = plain(model)
    for _ in range(2):
        torch.testing.assert_close(model.query(x), merged.query(x))
        torch.testing.assert_close(model.key(z), merged.key(z))
        torch.testing.assert_close(model.value(z), merged.value(z))


def test_a_model_may_change_an_output_in_place() -> None:
    """Longformer divides its queries so."""
    model, x = adapted(), draw(3, 6)
    query = model.query(x)
    query /= 2
    torch.cat([query, model.key(x)], dim=-1).sum().backward()
    gradient = model.query.A.grad.clone()
    model.zero_grad()
    (model.query(x.clone()) / 2).sum().backward()
    torch.testing.assert_close(gradient, model.query.A.grad)


def test_a_part_of_the_siblings_is_shared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls(monkeypatch)
    model = Attention()
    adapters.create("lora", rank=2).attach(model, ["query", "value"])
    model(torch.randn(2, 6))
    assert seen == [2]


def test_inference_mode_and_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted()
    x = draw(2, 6)
    expected = model(x)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected)
    copied = copy.deepcopy(model)
    assert copied.query.group.layers[0] is copied.query
    torch.testing.assert_close(copied(x), expected)


@pytest.mark.parametrize("called", ["query", ""], ids=["others wait", "none waits"])
def test_a_model_that_was_called_is_copied_and_pickled(called: str) -> None:
    """`torch.save(model)`, and a copy of a model in the middle of a forward pass."""
    model, x, file = adapted(), draw(3, 6), BytesIO()
    expected = model(x)
    if called:
        model.get_submodule(called)(x)
    torch.save(model, file)
    file.seek(0)
    for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert torch.equal(twin(x), expected)
        assert twin.query.group is twin.key.group is twin.value.group
        assert twin.query.group is not model.query.group


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_activations_give_the_same_gradients(reentrant: bool) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model("llama", dtype=torch.float64)
        adapter = adapters.create("lora", rank=2)
        adapter.attach(model, ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"], generator=seeded())
        for parameter in model.parameters():
            if parameter.requires_grad:
                nn.init.normal_(parameter, std=0.1, generator=seeded(parameter.numel()))
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model.train()
        model(**tiny_batch(model, 0)).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_fifty_float32_steps_follow_the_plain_formula(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def formula(x: Tensor, layers: Sequence[tuple[nn.Linear, Tensor, Tensor, float]]) -> tuple[Tensor, ...]:
        return tuple(base(x) + scale * (x @ b) @ a.t() for base, a, b, scale in layers)

    losses: dict[str, list[float]] = {"fast": [], "plain": []}
    for way, curve in losses.items():
        if way == "plain":
            monkeypatch.setattr("rankbench.adapters.low_rank.low_rank_linears", formula)
        model = tiny_model(architecture)
        adapters.create("lora", rank=4).attach(model, TARGETS[architecture], generator=seeded())
        trainable = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=1e-3)
        for step in range(50):
            loss = model(**tiny_batch(model, step % 5)).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            curve.append(loss.item())
    assert losses["fast"][-1] < losses["fast"][0]
    assert losses["fast"] == pytest.approx(losses["plain"], rel=1e-5)


@pytest.mark.parametrize("name", ["lora", "lora2", "scalora"])
def test_a_model_that_asks_for_a_layers_weight_gets_the_frozen_one(name: str) -> None:
    """T5 casts what it gives `wo` to its dtype."""
    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0)).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 1]]), "labels": torch.tensor([[8, 9, 1]])}
    before = model(**inputs).logits
    adapter = example(name, steps=10)
    adapter.attach(model, ["wo"], generator=seeded())
    torch.testing.assert_close(model(**inputs).logits, before)
    layers = list(adapter.layers.values())
    assert all(layer.weight is layer.base.weight and layer.bias is None for layer in layers)
    assert not any({"weight", "bias"} & set(layer.state_dict()) for layer in layers)


@pytest.mark.parametrize("name", ["lora", "lora-plus", "scalora", "scalora-scalar", "lora2", "reflora"])
def test_a_layer_that_a_step_does_not_use_has_no_gradient_of_its_siblings(name: str) -> None:
    """As by itself: AdamW would move it by what it remembers."""
    model = Attention().double()
    example(name, steps=9).attach(model, ["query", "key", "value"], generator=seeded())
    x = draw(2, 6)
    model.query(x).square().sum().backward()
    gone = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert gone == {n for n in trained if not n.startswith("query.")}
    assert trained - gone
    once = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (model.query(x).square().sum() + 0.0 * model(x).sum()).backward()
    for n, gradient in once.items():
        torch.testing.assert_close(model.get_parameter(n).grad, gradient)


def test_an_input_without_rows_has_gradients_of_zero() -> None:
    """An expert to which no token goes."""
    model, x = adapted(), torch.zeros(0, 6, dtype=torch.float64, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == (0, 6)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters() if p.requires_grad)
