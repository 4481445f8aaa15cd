"""A run attaches its adapter on the CPU and moves the model then: whatever an adapter keeps beside the model
has to follow. PyTorch's device of shapes stands for the other one: it refuses to compute with the CPU's, and
to give anything back. What a step brings over would make it wait as well, and is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankbench import adapters
from rankbench.adapters import Adapter
from rankbench.bench.run.step import make_accelerator, optimizer_step
from rankbench.tasks import Batch
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


class Crossings(TorchDispatchMode):
    """The operators that take something from the one device to the other. A single number goes along with the
    kernel, except to those that copy."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made, name = func(*args, **(kwargs or {})), func.overloadpacket.__name__
        copies = name in ("where", "copy_", "_to_copy", "index", "index_put_")
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and (x.ndim or copies)]
        results = [x for x in tree_leaves(made) if isinstance(x, Tensor)]
        if len({tensor.device.type for tensor in given + results}) > 1:
            self.found.append(name)
        return made


def train(adapter: Adapter, model: nn.Module) -> list[str]:
    """Four steps; what crosses in them after the first, in which state follows, but for the optimizer's."""
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad])
    first, later = Crossings(), Crossings()
    for step in range(4):
        crossings = later if step else first
        x = torch.randn(5, 8, device="meta")
        with crossings:
            (model(x).square().sum() + adapter.penalty()).backward()
            adapter.before_step(optimizer, step)
        optimizer.step()
        with crossings:
            adapter.after_step(optimizer, step)
        optimizer.zero_grad()
    return later.found


@pytest.mark.parametrize("name", [name for name in adapters.BUILT_IN if name not in READ_VALUES])
def test_an_adapter_follows_its_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # shapes have no autocast to ask for
    assert train(*moved(name)) == []


def test_the_loop_s_step_brings_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    adapter, model = moved("scalora")
    accelerator = make_accelerator()
    monkeypatch.setattr(accelerator.state, "device", torch.device("meta"))
    optimizer = accelerator.prepare_optimizer(SGD(adapter.trained()))
    batches = [Batch({"x": torch.randn(5, 8, device="meta")}, 5.0)] * 2
    with Crossings() as crossings:
        for step in range(2):
            optimizer_step(
                accelerator, model, adapter, optimizer, lambda net, inputs: net(inputs["x"]).square().sum(),
                batches, step=step, weight=10.0, clip=1.0,
            )  # fmt: skip
    assert crossings.found == []


def test_what_crosses_is_counted() -> None:
    there, here = torch.zeros(2, device="meta"), torch.ones(2)
    with Crossings() as crossings:
        there * torch.tensor(2.0)
        there.copy_(here)
        torch.where(there > 0, torch.tensor(2.0), there)
        here.to("meta")
    assert crossings.found == ["copy_", "where", "_to_copy"]


def test_what_a_checkpoint_gives_back_lies_where_the_factors_do() -> None:
    adapter, _ = moved("scalora")
    state = adapter.extra_state() | {"smoothness": torch.tensor(3.0)}
    adapter.load_extra_state(state)
    assert adapter.extra_state()["smoothness"].is_meta
