"""Starts that read the run's first batches: LoRA-GA's and EVA's against PEFT's own, and what they leave."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankbench import adapters
from rankbench.adapters import Adapter
from rankbench.adapters.base import FirstBatch
from tests.adapters.steps import outputs
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model

pytestmark = pytest.mark.numerical

RANK = 4
DATA_STARTS = ("lora-ga", "eva")


def first_batches(model: nn.Module, count: int) -> Iterator[FirstBatch]:
    for seed in range(count):
        batch = tiny_batch(model, seed)
        yield FirstBatch(batch, lambda batch=batch: model(**batch).loss)


def started(
    name: str, architecture: str = "bert", batches: int = 3, **values: Any
) -> tuple[Adapter, nn.Module]:
    model = tiny_model(architecture)
    adapter = adapters.create(name, rank=RANK, alpha=8.0, batches=batches, **values)
    adapter.attach(model, TARGETS[architecture], generator=seeded())
    adapter.before_training(first_batches(model, batches + 5))
    return adapter, model


def factors(layer: Any) -> tuple[Tensor, Tensor]:
    return layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()


@pytest.mark.parametrize("direction", ["ArB2r", "A2rBr", "ArBr"])
def test_lora_ga_starts_as_pefts_does(direction: Any) -> None:
    """Singular vectors have no sign of their own, and factors take them from different ones: compared are
    absolute values, and that each gives the weight back."""
    adapter, _ = started("lora-ga", direction=direction)
    plain = tiny_model("bert")
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=8,
        target_modules=TARGETS["bert"],
        init_lora_weights="lora_ga",
        lora_ga_config=peft.LoraGAConfig(direction=direction),
    )
    for layer in plain.modules():  # PEFT's has dropout, which ours leaves out
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0

    def estimate() -> None:
        for seed in range(3):
            plain(**tiny_batch(plain, seed)).loss.backward()

    peft.tuners.lora.loraga.preprocess_loraga(plain, config, estimate)
    theirs = peft.get_peft_model(plain, config).base_model.model
    for name, layer in adapter.layers.items():
        other: Any = theirs.get_submodule(name)
        for one, two in zip(factors(layer), factors(other), strict=True):
            torch.testing.assert_close(one.abs(), two.abs(), rtol=1e-2, atol=1e-4)
        weight = tiny_model("bert").get_parameter(f"{name}.weight")
        torch.testing.assert_close(adapter.weight(name), weight, rtol=1e-5, atol=1e-6)
        assert not torch.equal(adapter.plain(name).weight, weight)
        increment = other.get_delta_weight("default")
        torch.testing.assert_close(other.base_layer.weight + increment, weight, rtol=1e-5, atol=1e-6)


def test_lora_ga_takes_the_directions_of_the_full_gradient() -> None:
    """B from the first r right singular vectors of the mean loss's gradient, by an exact decomposition."""
    adapter, _ = started("lora-ga", batches=2)
    model = tiny_model("bert")
    for batch in (tiny_batch(model, seed) for seed in range(2)):
        (model(**batch).loss / 2).backward()
    for name, layer in adapter.layers.items():
        right = torch.linalg.svd(model.get_submodule(name).weight.grad).Vh[:RANK]
        overlap = torch.linalg.matrix_norm(factors(layer)[0] @ right.t()) ** 2
        assert float(overlap) == pytest.approx(RANK, rel=1e-3)


@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_lora_ga_scales_as_is_said(kind: Any) -> None:
    """A = c U₂ Σ₂ of the exact gradient: c = out^¼ / √gamma, of `Conv1D` in^¼ / √gamma."""
    inner, out = 12, 48
    layer = nn.Linear(inner, out) if kind is nn.Linear else Conv1D(out, inner)
    model = nn.Sequential(layer)
    adapter = adapters.create("lora-ga", rank=3, batches=1, gamma=4.0)
    adapter.attach(model, ["0"], heads=(), generator=seeded())
    x, target = torch.randn(20, inner, generator=seeded(1)), torch.randn(20, out, generator=seeded(2))
    adapter.before_training(iter([FirstBatch({"x": x}, lambda: (model(x) * target).sum())]))
    second = torch.linalg.svdvals(target.t() @ x)[3:6]
    side = out if kind is nn.Linear else inner
    found = torch.linalg.svdvals(factors(adapter.layers["0"])[1])
    torch.testing.assert_close(found, side**0.25 / 2.0 * second, rtol=1e-4, atol=0)


def test_eva_starts_as_pefts_does() -> None:
    """One batch, of which PEFT's components settle at once; ranks not shared out."""
    adapter, _ = started("eva", "llama", batches=1)
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=8,
        target_modules=TARGETS["llama"],
        init_lora_weights="eva",
        eva_config=peft.EvaConfig(rho=1.0, use_label_mask=False),
    )
    theirs = peft.get_peft_model(tiny_model("llama"), config)
    batch = tiny_batch(theirs.base_model.model)
    peft.initialize_lora_eva_weights(theirs, [batch], show_progress_bar=False)
    for name, layer in adapter.layers.items():
        ours, other = factors(layer)[0], factors(theirs.base_model.model.get_submodule(name))[0]
        assert torch.cosine_similarity(ours, other).abs().min() > 0.999, name


def read_by_eva(tokens: Tensor, mask: Tensor) -> Tensor:
    """B of the first layer's queries, which read one token each."""
    model = tiny_model("llama")
    adapter = adapters.create("eva", rank=RANK, batches=1)
    adapter.attach(model, r"model\.layers\.0\.self_attn\.q_proj", generator=seeded())
    inputs = {"input_ids": tokens, "attention_mask": mask}
    adapter.before_training(iter([FirstBatch(inputs, lambda: model(**inputs).logits.sum())]))
    return factors(next(iter(adapter.layers.values())))[0]


def test_eva_leaves_padding_out() -> None:
    """What stands in it changes nothing; and the components have what those of an exact decomposition have of
    the variance of the others."""
    model: Any = tiny_model("llama")
    mask = torch.ones(8, 7, dtype=torch.long)
    mask[:, 5:] = 0
    tokens = tiny_batch(model)["input_ids"]
    found, other = (read_by_eva(tokens.masked_fill(mask == 0, padding), mask) for padding in (0, 9))
    assert torch.equal(found, other)
    rows = model.model.layers[0].input_layernorm(model.model.embed_tokens(tokens[mask == 1])).detach()
    rows = rows - rows.mean(0)
    exact = torch.linalg.svd(rows).Vh[:RANK]
    assert (rows @ found.t()).square().sum() > 0.995 * (rows @ exact.t()).square().sum()
    torch.testing.assert_close(found @ found.t(), torch.eye(RANK), rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("name", DATA_STARTS)
def test_the_model_is_as_it_was(name: str, architecture: str) -> None:
    """Its function, what is trained of it, its gradients and the generators."""
    model = tiny_model(architecture)
    before, generators = outputs(model), torch.get_rng_state()
    adapter, started_model = started(name, architecture)
    torch.testing.assert_close(outputs(started_model), before, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), generators)
    assert all(parameter.grad is None for parameter in started_model.parameters())
    plain = adapters.create(name, rank=RANK)
    plain.attach(model, TARGETS[architecture], generator=seeded())
    trained = {n for n, p in started_model.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in model.named_parameters() if p.requires_grad}
    for layer, ours in adapter.layers.items():
        assert not torch.equal(factors(ours)[0], factors(plain.layers[layer])[0])
    adapter.merge(started_model)
    torch.testing.assert_close(outputs(started_model), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DATA_STARTS)
def test_the_start_is_part_of_the_state_and_repeats(name: str) -> None:
    """A model without the data takes it over, bit by bit."""
    adapter, model = started(name)
    again, _ = started(name)
    state, other = adapter.state_dict(), again.state_dict()
    assert all(torch.equal(state["tensors"][key], other["tensors"][key]) for key in state["tensors"])
    fresh = tiny_model("bert")
    without = adapters.create(name, rank=RANK, alpha=8.0)
    without.attach(fresh, TARGETS["bert"], generator=seeded(1))
    without.load_state_dict(copy.deepcopy(state))
    assert torch.equal(outputs(fresh), outputs(model))


def test_no_more_batches_are_made_than_are_read() -> None:
    model = tiny_model("bert")
    adapter = adapters.create("eva", rank=RANK, batches=2)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    left = first_batches(model, 5)
    adapter.before_training(left)
    assert len(list(left)) == 3


def test_too_few_rows_for_the_rank_are_told() -> None:
    model = nn.Sequential(nn.Linear(16, 16))
    adapter = adapters.create("eva", rank=8)
    adapter.attach(model, ["0"], heads=(), generator=seeded())
    x = torch.randn(5, 16)
    with pytest.raises(
        adapters.AdapterError, match="eva on 0: none of the first micro-batches has 8 rows"
    ) as caught:
        adapter.before_training(iter([FirstBatch({"x": x}, lambda: model(x).sum())]))
    assert "\n" not in str(caught.value)
