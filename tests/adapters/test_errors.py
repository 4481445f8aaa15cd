"""Bad input: one clear line each, and the model as it was."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
import torch
from torch import nn

from rankbench import adapters
from rankbench.adapters import Adapter, AdapterError
from rankbench.adapters.base import Ranked
from tests.conftest import TARGETS, seeded, tiny_model
from tests.examples import example


def refused(pattern: str) -> Any:
    return pytest.raises(AdapterError, match=pattern)


def test_every_adapter_in_the_package_is_registered_by_its_name() -> None:
    found = {}
    for module in pkgutil.walk_packages(adapters.__path__, f"{adapters.__name__}."):
        if module.name.endswith(".pair_kernel"):  # only GPUs have what it imports
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and issubclass(kind, Adapter) and "name" in vars(kind):
                found[kind.name] = f"{kind.__module__}:{kind.__name__}"
    assert found == adapters.BUILT_IN
    assert adapters.names()[: len(found)] == list(adapters.BUILT_IN)


@pytest.mark.parametrize(
    ("name", "values", "pattern"),
    [
        ("scalorra", {}, "unknown adapter 'scalorra'; did you mean 'scalora'"),
        ("zzz", {}, "unknown adapter 'zzz'; known: lora, rslora"),
        ("lora", {"rnak": 4}, "lora has no hyperparameter 'rnak'; did you mean 'rank'"),
        ("full", {"rank": 4}, "full has no hyperparameter 'rank'; known: none"),
        ("lora", {"rank": 0}, "rank must be a positive whole number, not 0"),
        ("lora", {"rank": 2.5}, "rank must be a positive whole number, not 2.5"),
        ("lora", {"alpha": -1}, "alpha must be a positive number, not -1"),
        ("scalora", {"learning_rate": -1e-3}, "learning_rate must be a positive number, not -0.001"),
        ("scalora", {"learning_rate": "1e-3"}, "learning_rate must be a positive number, not '1e-3'"),
        ("scalora-scalar", {"smoothness": -5}, "smoothness must be a positive number, not -5"),
        ("scalora-i", {"interval": 0}, "interval must be a positive whole number, not 0"),
        ("lora2", {}, "lora2 needs the hyperparameter 'total_steps'"),
        ("lora2", {"total_steps": 100, "width": 0}, "width must be a positive whole number"),
        ("lora2", {"total_steps": 100, "target_rank": 9}, "target_rank 9 is above rank 8"),
        ("lora2", {"total_steps": 100, "orthogonality": -0.1}, "orthogonality must be a positive number"),
        ("lora2", {"total_steps": 100, "beta1": 1.0}, "beta1 must lie between 0 and 1"),
        (
            "lora2",
            {"total_steps": 100, "init_warmup": 60, "final_warmup": 40},
            "none of the 100 steps to prune",
        ),
        (
            "lora2",
            {"total_steps": 100, "init_warmup": -1},
            "init_warmup must be a number of steps or a fraction",
        ),
        ("lora2", {"total_steps": 100, "init_warmup": "0.1"}, "a fraction below 1, not '0.1'"),
        ("adalora", {"total_steps": 100, "final_warmup": None}, "a fraction below 1, not None"),
        ("lora2", {"total_steps": 100, "beta1": "0.85"}, "beta1 must be a positive number, not '0.85'"),
        ("adalora", {"total_steps": 100, "beta2": None}, "beta2 must be a positive number, not None"),
        (
            "lora2",
            {"total_steps": 100, "orthogonality": ""},
            "orthogonality must be a positive number, not ''",
        ),
        ("adalora", {"total_steps": 100, "rank": 4, "target_rank": 4}, "target_rank must be below rank 4"),
        ("peft", {}, "peft needs the hyperparameter 'config'"),
        ("peft", {"config": {"r": 4}}, "PEFT has no peft_type None"),
        ("peft", {"config": {"peft_type": "LORAA"}}, "PEFT has no peft_type 'LORAA'; did you mean 'LORA'"),
        ("peft", {"config": {"peft_type": "LORA", "rr": 4}}, "PEFT's LORA has no setting 'rr'"),
        (
            "peft",
            {"config": {"peft_type": "LORA", "target_modules": "q"}},
            "target_modules cannot be set .*: targets decide it",
        ),
        (
            "peft",
            {"config": {"peft_type": "PROMPT_TUNING"}},
            "PROMPT_TUNING does not run here: it adds tokens .* no linear layer",
        ),
        ("peft", {"config": "LORA"}, "config must be PEFT's settings as `key: value`, not 'LORA'"),
        ("peft", {"config": {1: 2, "peft_type": "LORA"}}, "PEFT's LORA has no setting 1"),
        (
            "peft",
            {"config": {"peft_type": "LORA", "lora_alpha": float("nan")}},
            "must be a finite number",
        ),
        (
            "peft",
            {"config": {"peft_type": "ADALORA", "total_step": 9}, "total_steps": 8},
            "total_step 9 is not the run's 8 steps",
        ),
        (
            "peft",
            {"config": {"peft_type": "ADALORA", "deltaT": 0, "total_step": 9}},
            "PEFT refuses this ADALORA configuration: deltaT 0",
        ),
        (
            "peft",
            {"config": {"peft_type": "ADALORA", "init_r": 4, "target_r": 4, "total_step": 9}},
            "target_r 4 is not below init_r 4",
        ),
        ("lora-plus", {"ratio": 0}, "ratio must be a positive number, not 0"),
        ("lora-fa", {"correction": "yes"}, "correction must be true or false, not 'yes'"),
        ("reflora", {}, "reflora needs the hyperparameter 'total_steps'"),
        (
            "reflora",
            {"total_steps": 10, "warmup": -1},
            "warmup must be a number of steps or a fraction below 1",
        ),
        (
            "reflora",
            {"total_steps": 10, "warmup": 1.5},
            "warmup must be a number of steps or a fraction below 1",
        ),
        ("reflora", {"total_steps": 10, "warmup": 10}, "warmup leaves none of the 10 steps to refactor"),
        ("pissa", {"iterations": -1}, "iterations must be a whole number, not -1"),
        ("pissa", {"iteration": 4}, "pissa has no hyperparameter 'iteration'; did you mean 'iterations'"),
        ("olora", {"alpha": 0}, "alpha must be a positive number, not 0"),
        ("lora-ga", {"batches": 0}, "batches must be a positive whole number, not 0"),
        ("lora-ga", {"direction": "ArB"}, "direction 'ArB' is none of PEFT's; did you mean 'ArBr'"),
        ("lora-ga", {"scale": "stabel"}, "scale 'stabel' is none of PEFT's; did you mean 'stable'"),
        ("eva", {"batches": 2.5}, "batches must be a positive whole number, not 2.5"),
        ("randlora", {"scale": -1}, "scale must be a positive number, not -1"),
        ("vera", {"rank": 0}, "rank must be a positive whole number, not 0"),
        ("oft", {"rank": 4}, "oft has no hyperparameter 'rank'; known: block_size, neumann_terms"),
        ("oft", {"block_size": 2.5}, "block_size must be a positive whole number, not 2.5"),
        ("oft", {"neumann_terms": 1}, "neumann_terms must be at least 2, not 1: the first one turns"),
        ("hra", {"rank": 3}, "rank must be even, not 3"),
        ("miss", {"alpha": 4}, "miss has no hyperparameter 'alpha'"),
        ("delora", {"strength": 0}, "strength must be a positive number, not 0"),
        ("gralora", {"rank": 8, "blocks": 3}, "rank 8 is no multiple of blocks 3"),
        ("shira", {"rank": True}, "rank must be a positive whole number, not True"),
        ("peft", {"config": {"peft_type": "ADALORA", "init_r": 8}}, "PEFT refuses this ADALORA .*total_step"),
    ],
)
def test_bad_hyperparameters(name: str, values: dict[str, Any], pattern: str) -> None:
    with refused(pattern) as caught:
        adapters.create(name, **values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "pattern"),
    [
        (["quary"], r"target 'quary' matches no layer; did you mean 'query'\? .* end in classifier, dense"),
        ([], "there are no targets; the model's linear layers end in classifier"),
        ("*.query", "is no regular expression"),
        (["attention"], "target .*attention is a BertAttention; only Linear and Conv1D can be adapted"),
        (["classifier"], "target 'classifier' matches no layer outside the task's head"),
    ],
)
def test_bad_targets(targets: Any, pattern: str) -> None:
    model = tiny_model("bert")
    with refused(pattern):
        adapters.create("lora", rank=2).attach(model, targets)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", [n for n in adapters.BUILT_IN if issubclass(adapters.kind(n), Ranked)])
def test_a_rank_above_the_smaller_side(name: str) -> None:
    model = nn.ModuleDict({"wide": nn.Linear(64, 64), "narrow": nn.Linear(64, 5)})
    adapter = example(name, steps=100, rank=6)
    with refused(f"{name} on narrow: rank 6 is not between 1 and 5"):
        adapter.attach(model, ["wide", "narrow"])
    assert isinstance(model["wide"], nn.Linear)
    assert all(p.requires_grad for p in model.parameters())


def test_a_width_above_the_smaller_side() -> None:
    with refused("width 9 is above 8"):
        adapters.create("lora2", rank=4, width=9, total_steps=10).attach(
            nn.Sequential(nn.Linear(8, 20)), ["0"]
        )


def test_tied_weights_are_refused() -> None:
    model = tiny_model("gpt2")
    with refused("target lm_head shares its weight with transformer.wte.weight; leave it out"):
        adapters.create("lora", rank=2).attach(model, ["lm_head"])


def test_one_layer_under_two_names_is_refused() -> None:
    shared = nn.Linear(8, 8)
    model = nn.ModuleDict({"first": shared, "second": shared})
    with refused("target first shares its weight with second.weight"):
        adapters.create("lora", rank=2).attach(model, ["first"])


def test_a_layer_listed_twice_is_adapted_once() -> None:
    model = tiny_model("bert")
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["query", "attention.self.query", "query"])
    assert list(adapter.layers) == [f"bert.encoder.layer.{i}.attention.self.query" for i in (0, 1)]


@pytest.mark.parametrize("heads", [["classifer"], ["classifier", "pooller"], "classifer"])
def test_heads_that_name_nothing_are_refused(heads: Any) -> None:
    with refused("is no module of the model"):
        adapters.create("lora", rank=2).attach(tiny_model("bert"), ["query"], heads=heads)


@pytest.mark.parametrize("first", [{"name": "lora"}, {"name": "peft", "config": {"peft_type": "LORA"}}])
def test_a_model_takes_one_adapter_at_a_time(first: dict[str, Any]) -> None:
    model = tiny_model("bert")
    one = adapters.create(**first)
    one.attach(model, ["query"])
    with refused("the model has an adapter already, which would be frozen"):
        adapters.create("lora", rank=2).attach(model, ["value"])
    assert all(any(p.requires_grad for p in layer.parameters()) for layer in one.layers.values())
    one.merge(model)
    adapters.create("lora", rank=2).attach(model, ["value"])


def test_an_adapter_is_merged_into_its_own_model() -> None:
    one, other = adapters.create("lora", rank=2), tiny_model("bert")
    with refused("is not attached to this model"):
        one.merge(other)
    one.attach(tiny_model("bert"), ["query"])
    with refused("is not attached to this model"):
        one.merge(other)
    assert len(one.layers) == 2


def test_targets_follow_pefts_semantics() -> None:
    found = {}
    for targets in (["query"], r".*layer\.1.*\.query", ["bert.encoder.layer.1.attention.self.query"]):
        adapter = adapters.create("lora", rank=2)
        adapter.attach(tiny_model("bert"), targets)
        found[str(targets)] = len(adapter.layers)
    assert list(found.values()) == [2, 1, 1]


def test_a_state_of_another_adapter_changes_nothing() -> None:
    states = {}
    for name, rank in (("lora", 2), ("lora", 3), ("dora", 2)):
        adapter = adapters.create(name, rank=rank)
        adapter.attach(tiny_model("bert"), TARGETS["bert"], generator=seeded())
        states[name, rank] = adapter
    own = states["lora", 2].state_dict()["tensors"]
    with refused("the saved .* is .*, the model's is"):
        states["lora", 2].load_state_dict(states["lora", 3].state_dict())
    with refused("of another adapter or model"):
        states["lora", 2].load_state_dict(states["dora", 2].state_dict())
    now = states["lora", 2].state_dict()["tensors"]
    assert all(torch.equal(now[key], own[key]) for key in own)
