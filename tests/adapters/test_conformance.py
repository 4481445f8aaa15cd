"""What every registered adapter and every method of PEFT must do on every architecture; a new one is
tested as it registers."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch

from rankbench import adapters
from rankbench.adapters import Adapter
from rankbench.bench.conformance import starts, training
from rankbench.bench.conformance.subject import STEPS, Subject
from tests.conftest import ARCHITECTURES, DEVICE
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
    """Whether it is tested among the slow ones: PEFT's methods and starts on `others` than two architectures,
    and those that have a name of their own under PEFT's."""
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


def subject(name: str, architecture: str) -> Subject:
    return Subject(partial(created, name), architecture, DEVICE)


def created(name: str) -> Adapter:
    if name in BY_PEFT:
        return example("peft", steps=STEPS, config=METHODS[name.removeprefix(PEFT)])
    values = {key: value for key, value in ROOMY.items() if key in adapters.kind(name).example}
    if name == "scalora-i":
        values["interval"] = 3  # several scalings before and after a resume, and steps without one
    return example(name, steps=STEPS, **values)


@pytest.mark.numerical
@everywhere
def test_starts_as_the_identity_in_place(name: str, architecture: str) -> None:
    tried = subject(name, architecture)
    starts.attaches_in_place(tried)
    if name.removeprefix(PEFT) not in STARTS_ELSEWHERE:
        starts.starts_as_the_identity(tried)
        return
    adapter, _ = tried.attached()
    plain = {layer: adapter.plain(layer).weight for layer in adapter.layers}
    assert any(not torch.equal(adapter.folded(layer)["weight"], plain[layer]) for layer in plain)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if lacking(a)])
def test_what_peft_lacks_for_an_architecture_is_refused(architecture: str) -> None:
    for name in lacking(architecture):
        assert re.match(
            "PEFT refuses this|PEFT's OLoRA factorises", starts.refusal(subject(name, architecture))
        )


@pytest.mark.numerical
@everywhere
def test_trains_the_loss_down_and_merges(name: str, architecture: str) -> None:
    training.trains_the_loss_down_and_merges(subject(name, architecture))


@pytest.mark.numerical
@everywhere
def test_resumes_bit_by_bit(name: str, architecture: str) -> None:
    training.resumes_bit_by_bit(subject(name, architecture))


@pytest.mark.numerical
@every_adapter
def test_is_deterministic_in_its_seed(name: str) -> None:
    draws = NAMED.get(name, name.removeprefix(PEFT)) not in SEEDLESS | {"full", "pissa", "olora"}
    starts.is_deterministic_in_its_seed(subject(name, "bert"), draws=draws)


@every_adapter
def test_leaves_the_global_generator_alone(name: str) -> None:
    starts.leaves_the_global_generator_alone(subject(name, "bert"))


@every_adapter
def test_leaves_a_model_that_it_refuses_as_it_was(name: str) -> None:
    starts.leaves_a_model_that_it_refuses_as_it_was(subject(name, "bert"))


@everywhere
def test_keeps_the_head_trainable(name: str, architecture: str) -> None:
    starts.keeps_the_head_trainable(subject(name, architecture))


@pytest.mark.numerical
@every_adapter
def test_trains_under_bfloat16_autocast(name: str) -> None:
    training.trains_under_bfloat16_autocast(subject(name, "bert"))


@pytest.mark.numerical
@every_adapter
def test_merges_a_bfloat16_model_in_float32(name: str) -> None:
    """Also where steps fold into the frozen weights: none of ours refuses it."""
    tried = subject(name, "bert")
    assert tried.attach(tried.model(dtype=torch.bfloat16)).layers
    training.merges_a_bfloat16_model_in_float32(tried)


@every_adapter
@pytest.mark.parametrize("merged", [False, True])
def test_detaches_and_says_what_it_has_moved(name: str, merged: bool) -> None:
    training.detaches_and_says_what_it_has_moved(subject(name, "bert"), merged=merged)


@every_adapter
def test_says_what_it_counts(name: str) -> None:
    starts.says_what_it_counts(subject(name, "bert"))
