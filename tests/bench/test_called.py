"""Layers that a model never calls are no targets: towers that texts do not pass, weights read directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from rankbench import adapters
from rankbench.adapters import Adapter
from rankbench.bench.records import FailureRecord, RunRecord
from rankbench.bench.run.called import calls, reached, refuse_uncalled
from rankbench.bench.suite import AdapterSpec, ConfigError, Model, RunSpec, Training
from tests.bench.tiny_suite import record_of
from tests.tiny_architectures import GEMMA_3, save
from tests.tiny_text import tokenizer


def mamba(folder: Path) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mamba", vocab_size=264, **sizes))
    model.save_pretrained(folder)


def ran(folder: Path, targets: list[str], **adapter: Any) -> RunRecord | FailureRecord:
    tokenizer().save_pretrained(folder)
    run = RunSpec(
        suite="called",
        experiment="tiny",
        label="one",
        seed=0,
        task={"name": "tiny-causal"},
        model=Model(name=str(folder)),
        targets=targets,
        training=Training(steps=1, batch_size=4, learning_rate=1e-3),
        adapter=AdapterSpec(**adapter),
    )
    return record_of(run, folder / "results")


@pytest.mark.parametrize("adapter", [{"name": "lora", "rank": 2}, {"name": "dora", "rank": 2}])
def test_a_layer_whose_weight_is_read_without_a_call_is_refused(
    adapter: dict[str, Any], tmp_path: Path
) -> None:
    mamba(tmp_path)
    record = ran(tmp_path, ["in_proj", "dt_proj"], **adapter)
    assert isinstance(record, FailureRecord)
    assert record.kind == "refused"
    assert record.reason == (
        "tiny: the model computes without calling backbone.layers.0.mixer.dt_proj, "
        "backbone.layers.1.mixer.dt_proj (2 of 4 target layers): an adapter would learn nothing there; "
        "name narrower targets"
    )


@pytest.mark.parametrize(
    ("targets", "adapter"),
    [(["in_proj"], {"name": "lora", "rank": 2}), (["in_proj", "dt_proj"], {"name": "full"})],
)
def test_what_is_called_is_trained_and_full_trains_every_weight(
    targets: list[str], adapter: dict[str, Any], tmp_path: Path
) -> None:
    mamba(tmp_path)
    assert isinstance(ran(tmp_path, targets, **adapter), RunRecord)


def test_a_tower_that_no_text_passes_is_refused(tmp_path: Path) -> None:
    save(GEMMA_3, tmp_path)
    refused = ran(tmp_path, ["q_proj", "v_proj"], name="lora", rank=2)
    assert isinstance(refused, FailureRecord)
    assert "(2 of 6 target layers)" in refused.reason
    assert refused.reason.count("vision_tower") == 2
    narrower = [f"language_model.layers.{i}.self_attn.q_proj" for i in range(2)]
    assert isinstance(ran(tmp_path, narrower, name="lora", rank=2), RunRecord)


class Routed(nn.Module):
    """Texts of the first expert alone; its `spare` is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(4, 4)}) for _ in range(3))
        self.named = nn.ModuleDict({"one": nn.Linear(4, 4), "two": nn.Linear(4, 4)})
        self.spare = nn.Linear(4, 4)
        self.towers = nn.ModuleDict({"a": nn.Linear(4, 4)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.named["two"](self.experts[0]["up"](x))
        return found


def judge(targets: list[str]) -> None:
    model = Routed()
    with calls() as called:
        model(torch.zeros(1, 4))
    there = reached(model, called)
    adapter: Adapter = adapters.create("lora", rank=2)
    adapter.attach(model, targets)
    refuse_uncalled(adapter, there, "routed")


def test_an_expert_that_the_router_left_out_is_a_target() -> None:
    judge(["up", "one", "two"])


@pytest.mark.parametrize("alone", ["spare", "towers.a"])
def test_what_no_router_can_reach_is_refused(alone: str) -> None:
    with pytest.raises(ConfigError, match=rf"without calling {alone} \(1 of 4 target layers\)"):
        judge(["up", alone])


def test_no_hook_stays() -> None:
    with calls() as called:
        pass
    nn.Linear(2, 2)(torch.zeros(2))
    assert not called
