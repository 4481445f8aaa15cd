"""Every method of the installed PEFT, and every setting of each: carried out, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

import pytest
import torch
from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from torch import Tensor

from rankbench import adapters
from rankbench.adapters import AdapterError
from rankbench.adapters.peft import configuration
from rankbench.adapters.peft.presets import Peft
from rankbench.adapters.peft.support import NEEDS, REFUSED, RUNS
from tests.adapters.steps import optimizer_for, train
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model
from tests.peft_methods import METHODS, another

STEPS = 4


def made(config: dict[str, Any]) -> Peft:
    adapter = adapters.create("peft", config=config, total_steps=config.get("total_step", STEPS))
    assert isinstance(adapter, Peft)
    return adapter


def config_fields(method: str) -> list[Field[Any]]:
    return [
        f for f in fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(method)]) if f.init and f.name != "peft_type"
    ]


@pytest.mark.parametrize("method", [kind.value for kind in PeftType])
def test_every_method_of_peft_runs_or_is_refused_with_a_reason(method: str) -> None:
    """The conformance tests run those that run."""
    if method in RUNS:
        assert method not in REFUSED
        made(METHODS[method])
        return
    with pytest.raises(AdapterError, match=f"PEFT's {method} does not run here: ") as caught:
        made({"peft_type": method})
    assert REFUSED[method] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_method_that_was_never_tried_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer PEFT brings."""
    monkeypatch.setattr(configuration, "RUNS", {"LORA": RUNS["LORA"]})
    with pytest.raises(AdapterError, match="VERA has not been tried here yet; the methods that run are LORA"):
        made(METHODS["VERA"])


@pytest.fixture
def _uninitialised_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def trained(config: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """What a short training with dropout leaves: what was moved, and the outputs; merged and loaded
    again they are the same."""
    model = tiny_model("bert")
    adapter = made(config)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    model.train()
    torch.manual_seed(0)
    train(adapter, model, optimizer_for(model), range(STEPS), batches=2)
    with torch.no_grad():
        outputs = model.eval()(**tiny_batch(model)).logits
        state = adapter.state_dict()
        merged = adapter.merge(model)(**tiny_batch(model)).logits
        fresh, other = tiny_model("bert"), made(config)
        other.attach(fresh, TARGETS["bert"], generator=seeded(1))
        other.load_state_dict(state)
        loaded = fresh(**tiny_batch(fresh)).logits
    assert outputs.isfinite().all()
    torch.testing.assert_close(merged, outputs, rtol=1e-4, atol=1e-5)
    assert torch.equal(loaded, outputs)
    return state["tensors"], outputs


@pytest.mark.usefixtures("_uninitialised_is_nan")
@pytest.mark.parametrize("method", METHODS)
def test_every_setting_is_carried_out_or_refused(method: str) -> None:
    outputs: dict[str, Tensor] = {}
    for setting in config_fields(method):
        if setting.name not in RUNS[method]:
            assert_refused(method, setting)
            continue
        plain, change = another(method, setting.name)
        needed, value = NEEDS.get((method, setting.name), (None, None))
        if needed is not None:
            with pytest.raises(AdapterError, match=f"{setting.name} has no effect without {needed}"):
                made(plain | change)
            plain |= {needed: value} if value is not None else another(method, needed)[1]
        if repr(plain) not in outputs:
            outputs[repr(plain)] = trained(plain)[1]
        assert not torch.equal(trained(plain | change)[1], outputs[repr(plain)]), f"{change} has no effect"


def assert_refused(method: str, setting: Field[Any]) -> None:
    """Set to anything but its default; as it stands by default it asks for nothing."""
    default = setting.default if setting.default is not MISSING else None
    if setting.default_factory is not MISSING:
        default = setting.default_factory()
    made(METHODS[method] | {setting.name: default})
    with pytest.raises(AdapterError, match=f"{setting.name} cannot be set for PEFT's {method}") as caught:
        made(METHODS[method] | {setting.name: {"any": "thing"}})
    assert "\n" not in str(caught.value)


STARTS = [True, "gaussian", "olora", "orthogonal", "pissa", "pissa_niter_4", "mica", False]


@pytest.mark.parametrize("start", STARTS)
def test_lora_starts_from_the_model_whatever_its_factors(start: str | bool) -> None:
    model, plain = tiny_model("bert"), tiny_model("bert")
    made({"peft_type": "LORA", "r": 4, "init_lora_weights": start}).attach(model, TARGETS["bert"])
    with torch.no_grad():
        distance = (model(**tiny_batch(model)).logits - plain(**tiny_batch(plain)).logits).abs().max()
    assert (distance > 1e-4) if start is False else (distance < 1e-6)
    trained({"peft_type": "LORA", "r": 4, "init_lora_weights": start})


@pytest.mark.parametrize("start", ["eva", "corda", "lora_ga", "loftq", "EVA", "corda_4"])
def test_a_start_that_needs_data_is_refused(start: str) -> None:
    with pytest.raises(AdapterError, match=f"init_lora_weights '{start}' does not run here: it ") as caught:
        made({"peft_type": "LORA", "init_lora_weights": start})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [m for m in METHODS if "bias" in RUNS[m]])
def test_the_biases_of_adapted_layers_are_trained_when_asked(method: str) -> None:
    config = METHODS[method] | {"bias": f"{'lora' if method == 'ADALORA' else method.lower()}_only"}
    state, _ = trained(config)
    frozen = dict(tiny_model("bert").named_parameters())
    biases = {key: value for key, value in state.items() if key.endswith("base_layer.bias")}
    assert len(biases) == 8
    for key, value in biases.items():
        assert not torch.equal(value, frozen[key.replace(".base_layer", "")]), key
