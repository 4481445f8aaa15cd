"""What every registered adapter and every method of PEFT must do on every architecture; a new one is
tested as it registers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankbench import adapters
from rankbench.adapters import Adapter
from tests.adapters.steps import optimizer_for, outputs, train
from tests.conftest import ARCHITECTURES, DEVICE, TARGETS, seeded, tiny_model
from tests.examples import example
from tests.peft_methods import (
    LINEAR_ONLY,
    METHODS,
    NAMED,
    NEEDS_BIAS,
    SEEDLESS,
    STARTS,
    STARTS_ELSEWHERE,
)

STEPS = 8
ROOMY: dict[str, Any] = {
    "rank": 4,
    "width": 4,
    "target_rank": 2,
    "mask_interval": 2,
    "config": {"peft_type": "LORA", "r": 4, "use_rslora": True},
}
"""In the place of what an adapter's own example says: these layers have more rows than any example needs."""

PEFT = "peft "
"""Names of PEFT's methods begin with it."""

BY_PEFT = [PEFT + method for method in METHODS]
NAMES = adapters.names() + BY_PEFT


def lacking(architecture: str) -> set[str]:
    """What PEFT does not have for an architecture."""
    methods = {"gpt2": LINEAR_ONLY, "llama": NEEDS_BIAS}.get(architecture, set())
    named = {name for name, method in NAMED.items() if method in methods}
    named |= {"olora"} if architecture == "gpt2" else set()  # PEFT factorizes the weight as it lies
    return named | {PEFT + method for method in methods}


def later(name: str, others: bool) -> bool:
    """Whether it is tested among the slow ones: PEFT's methods on `others` than two architectures, and those
    that have a name of their own under PEFT's."""
    return (others and name in (*BY_PEFT, *NAMED, *STARTS)) or name.removeprefix(PEFT) in NAMED.values()


every_adapter = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if later(name, others=False) else []) for name in NAMES],
)
everywhere = pytest.mark.parametrize(
    ("name", "architecture"),
    [
        pytest.param(name, architecture, marks=[pytest.mark.slow] if later(name, others) else [])
        for architecture, others in zip(ARCHITECTURES, (False, True, True, False), strict=True)
        for name in NAMES
        if name not in lacking(architecture)
    ],
)
"""Fast for PEFT's methods on BERT and GPT-2, slow on the others; those that have a name are fast by it."""


def attached(
    name: str, architecture: str, seed: int = 0, *, head: str | None = None
) -> tuple[Adapter, nn.Module]:
    model = tiny_model(architecture, head=head)
    adapter = created(name)
    adapter.attach(model, TARGETS[architecture], generator=seeded(seed))
    return adapter, model.to(DEVICE)


def created(name: str) -> Adapter:
    if name in BY_PEFT:
        return example("peft", steps=STEPS, config=METHODS[name.removeprefix(PEFT)])
    values = {key: value for key, value in ROOMY.items() if key in adapters.kind(name).example}
    if name == "scalora-i":
        values["interval"] = 3  # several scalings before and after a resume, and steps without one
    return example(name, steps=STEPS, **values)


def everything(model: nn.Module) -> dict[str, Tensor]:
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


@pytest.mark.numerical
@everywhere
def test_starts_as_the_identity_in_place(name: str, architecture: str) -> None:
    before = outputs(tiny_model(architecture).to(DEVICE))
    adapter, model = attached(name, architecture)
    if name.removeprefix(PEFT) in STARTS_ELSEWHERE:
        starts = {layer: adapter.plain(layer).weight for layer in adapter.layers}
        assert any(not torch.equal(adapter.folded(layer)["weight"], starts[layer]) for layer in starts)
    else:
        torch.testing.assert_close(outputs(model), before, rtol=1e-6, atol=1e-6)
    assert adapter.model is model
    assert adapter.parameter_counts()["adapter"] > 0


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if lacking(a)])
def test_what_peft_lacks_for_an_architecture_is_refused(architecture: str) -> None:
    for name in lacking(architecture):
        model = tiny_model(architecture)
        before = everything(model)
        with pytest.raises(adapters.AdapterError, match="PEFT refuses this") as caught:
            created(name).attach(model, TARGETS[architecture])
        assert "\n" not in str(caught.value)
        after = everything(model)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key], before[key]) for key in before)
        assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.numerical
@everywhere
def test_trains_the_loss_down_and_merges(name: str, architecture: str) -> None:
    adapter, model = attached(name, architecture)
    before, frozen = everything(model), everything(model).keys() - adapter.state_dict()["tensors"].keys()
    starts = {layer: adapter.folded(layer) for layer in adapter.layers}
    optimizer = optimizer_for(model)
    losses = train(adapter, model, optimizer, range(STEPS), batches=2)
    assert sum(losses[-2:]) < sum(losses[:2])
    after = everything(model)
    assert [n for n in frozen if not torch.equal(before[n], after[n])] == []
    pruned = {layer for layer, rank in adapter.diagnostics().get("rank", {}).items() if rank == 0}
    assert len(pruned) < len(starts)
    for layer in starts.keys() - pruned:
        start, learnt = starts[layer], adapter.folded(layer)
        assert any(not torch.equal(start[key], learnt[key]) for key in start), f"{layer} has learnt nothing"

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


@pytest.mark.numerical
@everywhere
def test_resumes_bit_by_bit(name: str, architecture: str) -> None:
    adapter, model = attached(name, architecture)
    optimizer = optimizer_for(model)
    train(adapter, model, optimizer, range(STEPS // 2), batches=2)
    state, moments = adapter.state_dict(), copy.deepcopy(optimizer.state_dict())
    halfway = outputs(model)
    train(adapter, model, optimizer, range(STEPS // 2, STEPS), batches=2)

    other, fresh = attached(name, architecture, seed=1)
    resumed = optimizer_for(fresh)
    other.load_state_dict(state)
    resumed.load_state_dict(moments)
    assert torch.equal(outputs(fresh), halfway)
    train(other, fresh, resumed, range(STEPS // 2, STEPS), batches=2)
    assert torch.equal(outputs(fresh), outputs(model))
    assert other.diagnostics() == adapter.diagnostics()


@pytest.mark.numerical
@every_adapter
def test_is_deterministic_in_its_seed(name: str) -> None:
    tensors = [attached(name, "bert", seed)[0].state_dict()["tensors"] for seed in (3, 3, 4)]
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    if NAMED.get(name, name.removeprefix(PEFT)) not in SEEDLESS | {"full", "pissa", "olora"}:
        assert any(not torch.equal(tensors[0][key], tensors[2][key]) for key in tensors[0])


@every_adapter
def test_leaves_the_global_generator_alone(name: str) -> None:
    model = tiny_model("bert")
    adapter = created(name)
    before = torch.get_rng_state()
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    assert torch.equal(torch.get_rng_state(), before)


@everywhere
def test_keeps_the_head_trainable(name: str, architecture: str) -> None:
    adapter, model = attached(name, architecture, head="classes")
    head = [p for name in adapter.heads for p in model.get_submodule(name).parameters()]
    assert all(p.requires_grad for p in head)
    counts = adapter.parameter_counts()
    assert counts["trainable"] - counts["adapter"] == sum(p.numel() for p in head)


@pytest.mark.numerical
@every_adapter
def test_trains_under_bfloat16_autocast(name: str) -> None:
    adapter, model = attached(name, "bert")
    losses = train(adapter, model, optimizer_for(model), range(STEPS), batches=1, bfloat16=True)
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.numerical
@every_adapter
def test_merges_a_bfloat16_model_in_float32(name: str) -> None:
    """Or refuses it, where every step folds into the frozen weights."""
    model, adapter = tiny_model("bert", dtype=torch.bfloat16), created(name)
    if adapter.moves_base:
        with pytest.raises(adapters.AdapterError, match="would round small folds away"):
            adapter.attach(model, TARGETS["bert"])
        return
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    model.to(DEVICE)
    train(adapter, model, optimizer_for(model), range(STEPS), batches=2)
    unmerged = outputs(model).float()
    folded = {layer: adapter.weight(layer) for layer in adapter.layers}
    adapter.merge(model, dtype=torch.float32)
    for layer, weight in folded.items():
        assert torch.equal(model.get_parameter(f"{layer}.weight"), weight.float())
    torch.testing.assert_close(outputs(model), unmerged, rtol=0.02, atol=0.005)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@every_adapter
def test_says_what_it_counts(name: str) -> None:
    adapter, model = attached(name, "bert")
    assert adapter.parameter_counts()["trainable"] == sum(
        p.numel() for p in model.parameters() if p.requires_grad
    )
    with pytest.raises(adapters.AdapterError, match="attached already"):
        adapter.attach(model, TARGETS["bert"])
