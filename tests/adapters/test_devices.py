"""A run attaches its adapter on the CPU and moves the model then: whatever an adapter keeps beside the model
has to follow. PyTorch's device of shapes stands for the other one: it refuses to compute with the CPU's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from rankbench import adapters
from rankbench.adapters import Adapter
from tests.conftest import seeded
from tests.examples import example

READ_VALUES = {"adalora", "scalora-svd", "shira"}
"""Which a device of shapes has not; nor has it SHiRA's sparse matrices."""


def moved(name: str) -> tuple[Adapter, nn.Module]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 3))
    adapter = example(name, steps=4)
    adapter.attach(model, ["0", "2"], heads=["3"], generator=seeded())
    return adapter, model.to("meta")


def train(adapter: Adapter, model: nn.Module) -> None:
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad])
    for step in range(4):
        loss = model(torch.randn(5, 8, device="meta")).square().sum() + adapter.penalty()
        loss.backward()
        adapter.before_step(optimizer, step)
        optimizer.step()
        adapter.after_step(optimizer, step)
        optimizer.zero_grad()


@pytest.mark.parametrize("name", [name for name in adapters.BUILT_IN if name not in READ_VALUES])
def test_an_adapter_follows_its_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # shapes have no autocast to ask for
    train(*moved(name))


def test_what_a_checkpoint_gives_back_lies_where_the_factors_do() -> None:
    adapter, _ = moved("scalora")
    state = adapter.extra_state() | {"smoothness": torch.tensor(3.0)}
    adapter.load_extra_state(state)
    assert adapter.extra_state()["smoothness"].is_meta
