"""PEFT's methods in a suite: checked, estimated and run to a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rankbench.bench.cost.estimate import estimate
from rankbench.bench.records import RunRecord
from rankbench.bench.run.start import check
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training
from tests.bench.tiny_suite import record_of
from tests.peft_methods import METHODS

FROM_WEIGHTS = {"ADAMSS", "FROD", "SHIRA", "TINYLORA", "VBLORA"}
"""Those that a model of shapes is not enough for: their start or their merge asks for values."""


def spec(method: str, **settings: Any) -> RunSpec:
    return RunSpec(
        suite="methods",
        experiment="tiny",
        label=method.lower(),
        seed=0,
        task={"name": "tiny-classification"},
        model=Model(name="tiny-bert"),
        targets=["query", "value"],
        training=Training(steps=4, batch_size=8, learning_rate=1e-3),
        adapter=AdapterSpec(name="peft", config=METHODS[method] | settings),
    )


@pytest.mark.parametrize(
    "method", [m if m in FROM_WEIGHTS else pytest.param(m, marks=pytest.mark.slow) for m in METHODS]
)
def test_what_is_checked_and_estimated_is_what_runs(method: str, tmp_path: Path) -> None:
    run = spec(method)
    check(run)
    record = record_of(run, tmp_path)
    assert isinstance(record, RunRecord)
    assert estimate(run).parameters == record.parameters.adapter
    assert record.merge_parity is not None
    assert record.merge_parity.largest_logit_difference < 1e-5


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_2", "olora", "mica", "orthogonal"])
def test_a_start_out_of_the_weights_is_checked_on_a_model_of_shapes(start: str, tmp_path: Path) -> None:
    run = spec("LORA", init_lora_weights=start)
    check(run)
    record = record_of(run, tmp_path)
    assert isinstance(record, RunRecord)
    assert record.diagnostics["distance_at_start"] < 1e-5
    assert estimate(run).parameters == record.parameters.adapter
