"""What every registered adapter must do on every architecture; a new one is tested as it registers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

import adapters
from adapters import Adapter
from tests.conftest import ARCHITECTURES, TARGETS, tiny_batch, tiny_model

pytestmark = pytest.mark.numerical

STEPS = 8
GIVEN: dict[str, Any] = {
    "rank": 4,
    "width": 4,
    "target_rank": 2,
    "learning_rate": 1e-2,
    "total_steps": STEPS,
    "mask_interval": 2,
    "interval": 3,
    "config": {"peft_type": "LORA", "r": 4, "use_rslora": True},
}

every_adapter = pytest.mark.parametrize("name", adapters.names())
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def attached(
    name: str, architecture: str, seed: int = 0, *, head: str | None = None
) -> tuple[Adapter, nn.Module]:
    model = tiny_model(architecture, head=head)
    values = {key: GIVEN[key] for key in adapters.hyperparameters(name) if key in GIVEN}
    adapter = adapters.create(name, **values)
    adapter.attach(model, TARGETS[architecture], generator=torch.Generator().manual_seed(seed))
    return adapter, model


def optimizer_for(model: nn.Module) -> AdamW:
    return AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def train(adapter: Adapter, model: nn.Module, optimizer: AdamW, steps: range) -> list[float]:
    losses = []
    for step in steps:
        loss = model(**tiny_batch(model, step % 2)).loss
        (loss + adapter.penalty()).backward()
        adapter.before_step(optimizer, step)
        optimizer.step()
        adapter.after_step(optimizer, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def outputs(model: nn.Module) -> Tensor:
    logits: Tensor = model(**tiny_batch(model)).logits
    return logits


def everything(model: nn.Module) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


@every_adapter
@every_architecture
def test_starts_as_the_identity_in_place(name: str, architecture: str) -> None:
    before = outputs(tiny_model(architecture))
    adapter, model = attached(name, architecture)
    torch.testing.assert_close(outputs(model), before, rtol=1e-6, atol=1e-6)
    assert adapter.model is model
    assert adapter.parameter_counts()["adapter"] > 0


@every_adapter
@every_architecture
def test_trains_the_loss_down_and_merges(name: str, architecture: str) -> None:
    adapter, model = attached(name, architecture)
    before, frozen = everything(model), everything(model).keys() - adapter.state_dict()["tensors"].keys()
    optimizer = optimizer_for(model)
    losses = train(adapter, model, optimizer, range(STEPS))
    assert sum(losses[-2:]) < sum(losses[:2])
    after = everything(model)
    assert [n for n in frozen if not torch.equal(before[n], after[n])] == []
    moved = [n for n in adapter.state_dict()["tensors"] if not torch.equal(before[n], after[n])]
    assert len(moved) >= len(adapter.layers)

    weights = {layer: adapter.weight(layer) for layer in adapter.layers}
    unmerged = outputs(model)
    assert adapter.merge(model) is model
    torch.testing.assert_close(outputs(model), unmerged, rtol=1e-4, atol=1e-5)
    plain = tiny_model(architecture)
    assert everything(model).keys() == everything(plain).keys()
    merged = dict(model.named_parameters())
    for layer, weight in weights.items():
        stored = merged[f"{layer}.weight"]
        torch.testing.assert_close(
            weight, stored.t() if architecture == "gpt2" else stored, rtol=1e-5, atol=1e-6
        )


@every_adapter
@every_architecture
def test_resumes_bit_by_bit(name: str, architecture: str) -> None:
    adapter, model = attached(name, architecture)
    optimizer = optimizer_for(model)
    train(adapter, model, optimizer, range(STEPS // 2))
    state, moments = adapter.state_dict(), copy.deepcopy(optimizer.state_dict())
    halfway = outputs(model)
    train(adapter, model, optimizer, range(STEPS // 2, STEPS))

    other, fresh = attached(name, architecture, seed=1)
    resumed = optimizer_for(fresh)
    other.load_state_dict(state)
    resumed.load_state_dict(moments)
    assert torch.equal(outputs(fresh), halfway)
    train(other, fresh, resumed, range(STEPS // 2, STEPS))
    assert torch.equal(outputs(fresh), outputs(model))
    assert other.diagnostics() == adapter.diagnostics()


@every_adapter
def test_is_deterministic_in_its_seed(name: str) -> None:
    tensors = [attached(name, "bert", seed)[0].state_dict()["tensors"] for seed in (3, 3, 4)]
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    if name != "full":
        assert any(not torch.equal(tensors[0][key], tensors[2][key]) for key in tensors[0])


@every_adapter
def test_leaves_the_global_generator_alone(name: str) -> None:
    model = tiny_model("bert")
    values = {key: GIVEN[key] for key in adapters.hyperparameters(name) if key in GIVEN}
    adapter = adapters.create(name, **values)
    before = torch.get_rng_state()
    adapter.attach(model, TARGETS["bert"], generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


@every_adapter
@every_architecture
def test_keeps_the_head_trainable(name: str, architecture: str) -> None:
    adapter, model = attached(name, architecture, head="classes")
    head = [p for name in adapter.heads for p in model.get_submodule(name).parameters()]
    assert all(p.requires_grad for p in head)
    counts = adapter.parameter_counts()
    assert counts["trainable"] - counts["adapter"] == sum(p.numel() for p in head)


@every_adapter
def test_trains_under_bfloat16_autocast(name: str) -> None:
    adapter, model = attached(name, "bert")
    optimizer = optimizer_for(model)
    losses = []
    for step in range(STEPS):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**tiny_batch(model)).loss
        (loss + adapter.penalty()).backward()
        adapter.before_step(optimizer, step)
        optimizer.step()
        adapter.after_step(optimizer, step)
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


@every_adapter
def test_says_what_it_counts(name: str) -> None:
    adapter, model = attached(name, "bert")
    assert adapter.parameter_counts()["trainable"] == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    with pytest.raises(adapters.AdapterError, match="attached already"):
        adapter.attach(model, TARGETS["bert"])
