"""PEFT's methods under names of their own: against models that PEFT builds; sizes; what they refuse."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.optim import AdamW

from rankbench import adapters
from rankbench.adapters.peft.bridge import PeftBridge
from tests.adapters.steps import optimizer_for, outputs, train
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model

pytestmark = pytest.mark.numerical

STEPS = 3

DIRECTLY: dict[str, tuple[dict[str, Any], peft.PeftConfig]] = {
    "pissa": ({"rank": 4, "alpha": 4.0}, peft.LoraConfig(r=4, lora_alpha=4, init_lora_weights="pissa")),
    "olora": ({"rank": 4, "alpha": 8.0}, peft.LoraConfig(r=4, lora_alpha=8, init_lora_weights="olora")),
    "randlora": ({"rank": 8}, peft.RandLoraConfig(r=8, randlora_alpha=160)),
    "vera": ({"rank": 64}, peft.VeraConfig(r=64, d_initial=0.1)),
    "oft": ({"block_size": 8}, peft.OFTConfig(oft_block_size=8)),
    "hra": ({"rank": 4}, peft.HRAConfig(r=4)),
    "miss": ({"rank": 4}, peft.MissConfig(r=4)),
    "delora": ({"rank": 4, "strength": 10.0}, peft.DeloraConfig(r=4, delora_lambda=10)),
    "gralora": ({"rank": 4, "alpha": 8.0}, peft.GraloraConfig(r=4, alpha=8, gralora_k=2)),
    "shira": ({"rank": 4}, peft.ShiraConfig(r=4)),
}
"""Name -> its settings, and PEFT's configuration."""


@pytest.mark.parametrize("name", DIRECTLY)
def test_it_trains_as_pefts_model_does(name: str) -> None:
    """From our initial values, where these are drawn; the frozen weights are PEFT's own."""
    values, config = DIRECTLY[name]
    ours = tiny_model("bert")
    adapter = adapters.create(name, **values)
    adapter.attach(ours, TARGETS["bert"], generator=seeded())
    drawn = {n: p.detach().clone() for n, p in ours.named_parameters() if p.requires_grad}

    config.target_modules = list(TARGETS["bert"])
    theirs = peft.get_peft_model(tiny_model("bert"), config).base_model.model
    theirs.get_submodule("classifier").requires_grad_(True)
    trained = {n: p for n, p in theirs.named_parameters() if p.requires_grad}
    assert trained.keys() == drawn.keys()
    with torch.no_grad():
        for key, parameter in trained.items():
            parameter.copy_(drawn[key])
    optimizer = AdamW(trained.values(), lr=1e-2)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = theirs(**tiny_batch(theirs, step)).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert train(adapter, ours, optimizer_for(ours), range(STEPS)) == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(outputs(ours), outputs(theirs), rtol=1e-4, atol=1e-5)


IN, OUT = 24, 12

SIZES: dict[str, tuple[dict[str, Any], int]] = {
    "lora": ({"rank": 4}, 4 * (IN + OUT)),
    "pissa": ({"rank": 4}, 4 * (IN + OUT)),
    "olora": ({"rank": 4}, 4 * (IN + OUT)),
    "lora-ga": ({"rank": 4}, 4 * (IN + OUT)),
    "eva": ({"rank": 4}, 4 * (IN + OUT)),
    "lora-fa": ({"rank": 4}, 4 * OUT),
    "randlora": ({"rank": 5}, 3 * (5 + 12)),  # 3 = ⌈12 / 5⌉
    "vera": ({"rank": 64}, 64 + OUT),
    "oft": ({"block_size": 4}, IN * 3 // 2),
    "hra": ({"rank": 4}, 4 * IN),
    "miss": ({"rank": 4}, 4 * OUT),
    "delora": ({"rank": 4}, 4 * (IN + OUT) + 1),
    "gralora": ({"rank": 4}, 4 * (IN + OUT)),
    "shira": ({"rank": 4}, 4 * (IN + OUT)),
}


@pytest.mark.parametrize("name", SIZES)
def test_what_a_layer_trains_is_what_is_said(name: str) -> None:
    """The formulas of `adapters.peft.increments` and `rotations`, by which sizes are matched."""
    values, size = SIZES[name]
    adapter = adapters.create(name, **values)
    adapter.attach(nn.Sequential(nn.Linear(IN, OUT)), ["0"], heads=(), generator=seeded())
    assert adapter.parameter_counts()["adapter"] == size


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_a_double_precision_weight_loses_nothing(name: str) -> None:
    """PEFT's factors are those of float32; what is left of the weight is taken from all of its digits."""
    model = tiny_model("bert", dtype=torch.float64)
    before = outputs(model)
    adapter = adapters.create(name, rank=4)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    assert isinstance(adapter, PeftBridge)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    torch.testing.assert_close(outputs(model), before, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("oft", {"block_size": 5}, r"PEFT refuses this OFT configuration: .*\(5\)"),
        (
            "gralora",
            {"rank": 5, "blocks": 5},
            "PEFT refuses this GRALORA configuration: in_features should be",
        ),
        ("shira", {"rank": 20}, "PEFT refuses this SHIRA configuration: The set rank 20"),
        ("lora-ga", {"rank": 20}, "rank 20 needs 40 singular directions, the layer has 32; .* at most 16"),
        ("hra", {"rank": 34}, "rank 34 is not between 1 and 32"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(name: str, values: dict[str, Any], message: str) -> None:
    model = tiny_model("bert")
    before = {key: parameter.clone() for key, parameter in model.named_parameters()}
    with pytest.raises(adapters.AdapterError, match=message) as caught:
        adapters.create(name, **values).attach(model, TARGETS["bert"])
    assert "\n" not in str(caught.value)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) and after[key].requires_grad for key in before)
