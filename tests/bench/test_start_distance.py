"""The record says how far from the pretrained model a run starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rankbench import tasks
from rankbench.bench.records import RunRecord
from rankbench.bench.seeds import generator
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training
from rankbench.bench.suite.described import adapter_of
from tests.bench.tiny_suite import record_of


def spec(name: str, **adapter: Any) -> RunSpec:
    return RunSpec(
        suite="start",
        experiment="line",
        label=name,
        seed=3,
        task={"name": "linear-regression", "width": 16},
        model=Model(name="linear"),
        targets=["linear"],
        training=Training(steps=2, batch_size=8, learning_rate=1e-3),
        adapter=AdapterSpec(name=name, **adapter),
    )


def distance(run: RunSpec, folder: Path) -> float:
    record = record_of(run, folder)
    assert isinstance(record, RunRecord)
    value: float = record.diagnostics["distance_at_start"]
    return value


@pytest.mark.parametrize("name", ["lora", "full", "scalora", "dora"])
def test_an_increment_of_zero_is_at_no_distance(name: str, tmp_path: Path) -> None:
    assert distance(spec(name), tmp_path) < 1e-6


@pytest.mark.parametrize(
    "config",
    [{"peft_type": "FOURIERFT", "n_frequency": 50}, {"peft_type": "LORA", "init_lora_weights": False}],
)
def test_a_random_increment_is_measured(config: dict[str, Any], tmp_path: Path) -> None:
    """For one layer: the largest entry of x ΔWᵀ."""
    run = spec("peft", config=config)
    task = tasks.create(**run.task)
    task.prepare(None)
    model = task.build_model(run.seed)
    start = model.get_parameter("linear.weight").detach().clone()
    adapter = adapter_of(run)
    adapter.attach(model, run.targets, generator=generator(run.seed, "adapter"))
    increment = adapter.weight("linear") - start
    inputs = task._draw()[2]["selection"][: len(task.logits(model))]
    expected = float((inputs @ increment.t()).abs().max())
    assert expected > 1e-3
    assert distance(run, tmp_path) == pytest.approx(expected, rel=1e-4)
