"""A task's deadline: a run whose scoring takes longer fails in one line, and trains no step again."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from torch import nn

from rankbench import tasks
from rankbench.bench.cli import main
from rankbench.bench.records import FailureRecord, Folders, RunRecord, read_record
from rankbench.bench.run import train
from rankbench.bench.run.job import resolve
from rankbench.bench.suite import load_suite, plan
from rankbench.tasks import TaskError
from rankbench.tasks.causal import harness
from rankbench.tasks.scoring import until
from tests.bench.tiny_suite import with_changes
from tests.tiny_text import llama, tokenizer


class Clock:
    """Goes by a second at each look, where it is wound up."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr("rankbench.tasks.scoring.time", found := Clock())
    return found


def test_calls_after_the_deadline_are_refused(clock):
    model, calls = nn.Linear(1, 1), []

    def score() -> None:
        while len(calls) < 9:
            model(torch.ones(1))
            calls.append(1)

    with pytest.raises(TaskError, match="mine: scoring takes longer than its deadline, 3 seconds;"):
        with_deadline(score, 3, model)
    assert len(calls) == 3
    with_deadline(score, None, model)
    assert len(calls) == 9


def with_deadline(work, seconds, model) -> None:
    with until(seconds, model, "mine"):
        work()


def test_what_is_generated_is_looked_at_token_by_token(clock):
    model, prompt = llama().eval(), torch.tensor([[5, 6, 7]])
    lm = harness.wrap(model, tokenizer(), 1, 64)
    with pytest.raises(TaskError):
        with_deadline(lambda: lm._model_generate(prompt, 60, stop=[], min_new_tokens=50), 4, model)
    assert clock.seconds == 6


def written(path, **task) -> str:
    training = {"steps": 3, "batch_size": 4, "learning_rate": 1e-3}
    suite = with_changes(task={"name": "tiny-classification", **task}, training=training)
    suite["experiments"]["tiny"]["adapters"] = {"lora": {"rank": 2}}
    path.write_text(yaml.safe_dump(suite))
    return str(path)


def test_a_run_that_overruns_is_gone_on_with_from_its_checkpoint(tmp_path, monkeypatch, capsys):
    path, results = tmp_path / "mine.yaml", tmp_path / "results"
    steps, step = [], train.optimizer_step
    monkeypatch.setattr(train, "optimizer_step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    words = "run", written(path, deadline=1e-9), "--results", str(results)
    assert main(words) == 1
    folders, (spec,) = Folders(results / "mine"), plan(load_suite(str(path)))
    failure = read_record(folders.failure(spec.cell), FailureRecord)
    told = "tiny-classification: scoring takes longer than its deadline, 1e-09 seconds; raise `deadline`, or"
    assert failure.reason == f"{told} score fewer items"
    assert failure.reason in " ".join(capsys.readouterr().err.split())
    assert folders.checkpoint(spec.cell).exists()
    written(path, deadline=600)
    assert main(words) == 0
    assert len(steps) == 3
    record = read_record(folders.record(spec.cell), RunRecord)
    assert record.timings.legs == 2
    assert not folders.failure(spec.cell).exists()
    written(path)
    (without,) = plan(load_suite(str(path)))
    assert resolve(without).fingerprint == record.fingerprint == failure.fingerprint


@pytest.mark.parametrize(
    "wrong", [0, -1, True, "soon", "60", [60], {"seconds": 60}, math.inf, math.nan, -math.inf]
)
def test_a_deadline_that_is_none_is_told_in_one_line(wrong, tmp_path, capsys):
    assert main(["plan", written(tmp_path / "mine.yaml", deadline=wrong)]) == 2
    error = capsys.readouterr().err
    assert "deadline must be a number of seconds above 0" in error
    assert len(error.splitlines()) == 1


def test_a_misspelt_deadline_is_told_with_the_right_one(tmp_path, capsys):
    assert main(["plan", written(tmp_path / "mine.yaml", dedline=60)]) == 2
    assert "has no option 'dedline'; did you mean deadline?" in capsys.readouterr().err


def test_every_task_has_one():
    assert tasks.create("tiny-causal", deadline=60).deadline == 60
    assert tasks.create("tiny-causal").deadline is None
