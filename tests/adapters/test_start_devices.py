"""A start does not depend on the device that the model lies on: draws are the CPU's, and what is computed
from the frozen weights is so in main memory. PyTorch's device of shapes stands for another device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankbench import adapters
from rankbench.adapters import Adapter
from rankbench.adapters.peft import injection
from rankbench.adapters.peft.bridge import PeftBridge
from rankbench.adapters.peft.configuration import configuration
from rankbench.adapters.peft.presets import Peft
from rankbench.adapters.peft.support import NEEDS, RUNS, reads_weights
from tests.conftest import DEVICE, TARGETS, seeded, tiny_model
from tests.examples import example
from tests.peft_methods import METHODS, another

DRAWS = ("uniform", "normal", "bernoulli", "rand", "multinomial", "exponential")
RESHAPES = ("detach", "t", "view", "transpose", "alias")


class Watch(TorchDispatchMode):
    """What an attachment does with the frozen weights, and where it draws."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.places = {p.untyped_storage().data_ptr() for p in model.parameters() if not p.is_meta}
        self.read = self.drawn_elsewhere = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        given, made = (
            [each for each in tree_leaves(tree) if isinstance(each, Tensor)]
            for tree in ((args, kwargs), found)
        )
        inside = any(not t.is_meta and t.untyped_storage().data_ptr() in self.places for t in given)
        self.read |= inside and name not in RESHAPES
        self.drawn_elsewhere |= any(word in name for word in DRAWS) and any(t.is_meta for t in made)
        return found


def looks_at_weights(create: Callable[[], Adapter], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether an attachment computes from the frozen weights, or draws where they lie."""
    monkeypatch.setattr(injection, "reads_weights", lambda _: False)  # or they were copied beforehand
    monkeypatch.setattr(injection, "_check", lambda _: None)  # it tries a merge
    seen = []
    for device in ("cpu", "meta"):
        model = tiny_model("bert").to(device)
        with Watch(model) as watch:
            create().attach(model, TARGETS["bert"], generator=seeded())
        seen.append(watch.read or watch.drawn_elsewhere)
    return any(seen)


OURS = [name for name in adapters.BUILT_IN if not issubclass(adapters.kind(name), PeftBridge)]


@pytest.mark.parametrize("name", OURS)
def test_a_start_of_ours_needs_no_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not looks_at_weights(lambda: example(name, steps=4), monkeypatch)


STARTS = [
    {"peft_type": "LORA", "r": 4, "init_lora_weights": start} for start in ("gaussian", "orthogonal", "olora")
]


def made(config: dict[str, Any]) -> Peft:
    adapter = adapters.create("peft", config=config, total_steps=config.get("total_step", 4))
    assert isinstance(adapter, Peft)
    return adapter


def said_to_read(config: dict[str, Any]) -> bool:
    """As the bridge decides it."""
    return reads_weights(configuration(made(config).peft_settings())[0])


@pytest.mark.parametrize(
    "config", [*METHODS.values(), *STARTS], ids=lambda config: "-".join(map(str, config.values()))
)
def test_which_starts_of_pefts_read_the_weights(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are computed in main memory; the others' weights stay where they are."""
    expected = said_to_read(config)
    assert looks_at_weights(partial(made, config), monkeypatch) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("method", "setting"), [(m, s) for m, known in RUNS.items() for s in sorted(known)])
def test_no_other_setting_reads_the_weights(
    method: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, changed = another(method, setting)
    needed, value = NEEDS.get((method, setting), (None, None))
    if needed is not None:
        plain |= {needed: value} if value is not None else another(method, needed)[1]
    expected = said_to_read(plain | changed)
    assert expected or not looks_at_weights(partial(made, plain | changed), monkeypatch)


@pytest.mark.parametrize("name", [*adapters.BUILT_IN, *METHODS])
def test_a_start_is_the_same_on_every_device(name: str) -> None:
    """Bit by bit; a processor can only see that nothing is drawn twice."""
    found = []
    for device in (DEVICE, "cpu"):
        config = {"config": METHODS[name]} if name in METHODS else {}
        adapter = example("peft" if config else name, steps=4, **config)
        model = adapter.attach(tiny_model("bert").to(device), TARGETS["bert"], generator=seeded())
        assert {parameter.device.type for parameter in model.parameters()} == {torch.device(device).type}
        found.append(adapter.state_dict()["tensors"])
    assert all(torch.equal(found[0][name].cpu(), found[1][name]) for name in found[1])


@pytest.mark.parametrize("name", ["dora", "pissa", "lora"])
def test_a_start_leaves_the_frozen_weights_in_their_memory(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model that is lent, that is held whatever the borrower does: other memory would come on top."""
    expected = example(name, steps=4)
    expected.attach(tiny_model("bert"), TARGETS["bert"], generator=seeded())

    def copied(module: nn.Module) -> nn.Module:
        return module._apply(torch.clone)

    monkeypatch.setattr(nn.Module, "cpu", copied)  # as from another device
    adapter, model = example(name, steps=4), tiny_model("bert")
    places = {parameter.data_ptr() for parameter in model.parameters()}
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    assert {adapter.plain(layer).weight.data_ptr() for layer in adapter.layers} <= places
    assert all(torch.equal(adapter.weight(layer), expected.weight(layer)) for layer in adapter.layers)
