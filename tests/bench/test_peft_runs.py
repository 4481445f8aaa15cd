"""PEFT's methods in a suite: checked, estimated and run to a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rankbench import adapters
from rankbench.bench.cost.estimate import estimate
from rankbench.bench.records import FailureRecord, RunRecord
from rankbench.bench.run.start import check
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training
from tests.bench.tiny_suite import record_of
from tests.peft_methods import METHODS, NAMED, STARTS

FROM_WEIGHTS = {"ADAMSS", "FROD", "SHIRA", "TINYLORA", "VBLORA"}
"""Those that a model of shapes is not enough for: their start or their merge asks for values."""


def named(name: str, **values: Any) -> RunSpec:
    """A run of an adapter that has a name of its own."""
    adapter = AdapterSpec(name=name, **adapters.kind(name).example | values)
    return spec("LORA").model_copy(update={"adapter": adapter, "label": name})


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


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "lora-ga" else pytest.mark.slow) for name in (*STARTS, *NAMED)],
)
def test_a_method_by_its_name_is_checked_estimated_and_run(name: str, tmp_path: Path) -> None:
    run = named(name)
    check(run)
    record = record_of(run, tmp_path)
    assert isinstance(record, RunRecord)
    assert record.diagnostics["distance_at_start"] < 1e-5
    assert estimate(run).parameters == record.parameters.adapter
    assert record.merge_parity is not None
    assert record.merge_parity.largest_logit_difference < 1e-5


@pytest.mark.parametrize("name", ["lora-ga", pytest.param("eva", marks=pytest.mark.slow)])
def test_the_data_that_a_start_reads_change_the_run(name: str, tmp_path: Path) -> None:
    one, two = (record_of(named(name, batches=count), tmp_path / f"{count}") for count in (1, 3))
    assert isinstance(one, RunRecord)
    assert isinstance(two, RunRecord)
    assert one.curve.loss[0] == pytest.approx(two.curve.loss[0], rel=1e-4)  # the same model
    assert one.curve.loss[2:] != two.curve.loss[2:]


def test_a_start_that_finds_too_little_data_is_a_refusal_in_one_line(tmp_path: Path) -> None:
    run = named("eva", rank=32)
    short = run.model_copy(update={"training": run.training.model_copy(update={"batch_size": 1})})
    failure = record_of(short, tmp_path)
    assert isinstance(failure, FailureRecord)
    assert failure.reason.startswith("eva on ")
    assert "raise batch_size or lower rank" in failure.reason
