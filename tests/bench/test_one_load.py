"""The runs of a process share one load of their model; no number of theirs knows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankbench.bench.models import shared
from rankbench.bench.records import FailureRecord, RunRecord
from rankbench.bench.run import runner
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training
from rankbench.tasks.toy.regression import LinearRegression
from tests.bench.tiny_suite import numbers, record_of
from tests.tiny_text import bert, encoder_tokenizer

RUNS = [("lora", 0), ("full", 1), ("scalora", 0), ("lora", 1), ("pissa", 0)]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    bert(2).save_pretrained(tmp_path / "model")
    encoder_tokenizer().save_pretrained(tmp_path / "model")
    return Model(name=str(tmp_path / "model"))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often a run had to wait for a whole load."""
    shared.forget()
    seen: list[str] = []
    load = shared.load
    monkeypatch.setattr(shared, "load", lambda *given: seen.append(given[0].name) or load(*given))
    return seen


def spec(model: Model, name: str, seed: int, **training: Any) -> RunSpec:
    settings = {"steps": 3, "batch_size": 4, "learning_rate": 1e-2, "observe": 3, "select": "best"} | training
    return RunSpec(
        suite="shared",
        experiment="classes",
        label=name,
        seed=seed,
        task={"name": "tiny-classification", "train": 16, "selection": 8, "test": 8},
        model=model,
        targets=["query", "value"],
        training=Training.model_validate(settings),
        adapter=AdapterSpec(name=name),
    )


def test_a_tasks_own_model_is_the_same_for_a_seed_wherever_it_draws_from() -> None:
    """As `nn.Linear` does by itself, from the global generator, whatever that is at."""

    class Own(LinearRegression):
        def build_model(self, seed: int) -> nn.Module:
            return nn.Linear(3, 3)

    def weight(seed: int) -> Tensor:
        torch.rand(1)
        state = torch.get_rng_state()
        made = shared.load_model(Model(name="none"), Own("own"), seed)
        assert torch.equal(torch.get_rng_state(), state)
        return made.get_parameter("weight")

    assert torch.equal(weight(0), weight(0))
    assert not torch.equal(weight(0), weight(1))


def test_runs_on_one_load_have_the_numbers_of_runs_on_their_own(
    model: Model, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit: after any other adapter, after their own best state was put back, after merging."""
    found = [record_of(spec(model, name, seed), tmp_path / "one") for name, seed in RUNS]
    assert loads == [model.name]
    monkeypatch.setattr(shared, "borrow", lambda *given: shared.load_headed(*given))
    for run, (name, seed) in zip(found, RUNS, strict=True):
        alone = record_of(spec(model, name, seed), tmp_path / "own")
        assert isinstance(run, RunRecord)
        assert isinstance(alone, RunRecord)
        assert numbers(run) == numbers(alone), name
    steps = [run.metrics.best_step for run in found if isinstance(run, RunRecord)]
    assert min(steps) < 3, "some have their best state put back"


@pytest.mark.parametrize("failing", [{"learning_rate": 1e30}, {}])
def test_a_run_that_failed_leaves_nothing_behind(
    failing: dict[str, Any], model: Model, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = record_of(spec(model, "full", 0), tmp_path / "before")
    with monkeypatch.context() as patched:
        if "learning_rate" not in failing:  # it falls over after training, its weights merged
            patched.setattr(runner.knowledge, "read", lambda *_: 1 / 0)
        failed = record_of(spec(model, "full", 1, **failing), tmp_path / "failed")
    assert isinstance(failed, FailureRecord)
    after = record_of(spec(model, "full", 0), tmp_path / "after")
    assert isinstance(before, RunRecord)
    assert isinstance(after, RunRecord)
    assert numbers(before) == numbers(after)
    assert loads == [model.name] * 2


def test_a_run_lets_go_of_its_adapter(model: Model, tmp_path: Path) -> None:
    """What is kept for the next run are the weights, and no more than these."""
    record_of(spec(model, "full", 0), tmp_path)
    assert shared._shared is not None
    assert shared._shared.lent is None
    assert not any(parameter.grad is not None for parameter in shared._shared.loaded.model.parameters())


def test_another_model_is_gone_before_a_run_s_memory_is_measured(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one with another head, and what a run that failed has left; the next run's own model stays."""
    kept: list[bool] = []
    reset = runner.reset_peak_memory
    monkeypatch.setattr(
        runner, "reset_peak_memory", lambda: kept.append(shared._shared is not None) or reset()
    )
    bert(1).save_pretrained(tmp_path / "other")
    encoder_tokenizer().save_pretrained(tmp_path / "other")
    other = Model(name=str(tmp_path / "other"))
    words = {"name": "tiny-causal", "train": 16, "selection": 8, "test": 8}
    lora = spec(model, "lora", 0)
    failing = spec(model, "lora", 1, learning_rate=1e30)
    for each in (lora, lora, spec(other, "lora", 0), failing, lora, lora.model_copy(update={"task": words})):
        record_of(each, tmp_path / "runs")
    shared.forget()
    assert kept == [False, True, False, False, False, False]
