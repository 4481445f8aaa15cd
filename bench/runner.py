"""From one run specification to one record on the disk: load, attach, train, merge, score, write."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

import adapters
import tasks
from bench import measure, models
from bench.checkpoint import Checkpoint, Progress
from bench.config import ConfigError, Model, RunSpec, make_adapter
from bench.record import (
    LOOP_VERSION,
    SCHEMA_VERSION,
    Curve,
    FailureRecord,
    MergeParity,
    Metrics,
    Observation,
    Parameters,
    RunRecord,
    Timings,
    fingerprint,
    rank_of,
    read_record,
    write_predictions,
    write_record,
)
from bench.seeds import generator
from bench.train import RunFailed, Watch, Work, make_accelerator, train
from tasks.metrics import metric
from tasks.scoring import evaluating

WARM_UP_STEPS = 3
"""Steps left out of the median step time."""


@dataclass(frozen=True)
class Folders:
    """Where a suite's files lie."""

    root: Path

    def record(self, spec: RunSpec) -> Path:
        """The record of a finished run."""
        return self.root / "runs" / f"{spec.cell}.json"

    def discard(self, spec: RunSpec) -> None:
        """Remove a stale record and its predictions, the record first: none stands beside
        another run's predictions."""
        self.record(spec).unlink(missing_ok=True)
        self.record(spec).with_suffix(".parquet").unlink(missing_ok=True)

    def failure(self, spec: RunSpec) -> Path:
        """The record of a failed run."""
        return self.root / "failed" / f"{spec.cell}.json"

    def overhead(self, name: str) -> Path:
        """The record of an overhead measurement."""
        return self.root / "overhead" / f"{name}.json"

    def checkpoint(self, spec: RunSpec) -> Path:
        """The state of an unfinished run."""
        return self.root / "checkpoints" / f"{spec.cell}.pt"


@dataclass(frozen=True)
class Listener:
    """How a caller follows a run: `tick` after each step, `stopped` to ask for an early end."""

    tick: Callable[[Curve], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = 60.0


def make_task(spec: RunSpec) -> tasks.Task:
    """The task of a run, shared by all runs with the same options and model in this process."""
    return _task(json.dumps(spec.task, sort_keys=True), spec.model)


@functools.cache
def _task(options: str, _model: Model) -> tasks.Task:
    """One for each model: a prepared task holds what that model's tokenizer made of it."""
    return tasks.create(**json.loads(options))


@functools.cache
def _prepared(options: str, model: Model) -> tasks.Prepared:
    task = _task(options, model)
    return task.prepare(None if task.head.kind == "own" else models.load_tokenizer(model))


def identity(spec: RunSpec) -> dict[str, Any]:
    """Everything that a run's numbers depend on; no download."""
    task = make_task(spec)
    return {
        "schema": SCHEMA_VERSION,
        "loop": LOOP_VERSION,
        "task": task.fingerprint(),
        "model": spec.model.name,
        "weights": "task's own" if task.head.kind == "own" else models.identity(spec.model),
        "targets": spec.targets,
        "training": spec.training.model_dump(exclude={"learning_rate"}),
        "learning_rate": learning_rate(spec),
        "adapter": {"version": adapters.version(spec.adapter.name), **_resolved(spec)},
        "seed": spec.seed,
    }


def _resolved(spec: RunSpec) -> dict[str, Any]:
    return {"name": spec.adapter.name, **_adapter(spec).settings()}


def _adapter(spec: RunSpec) -> adapters.Adapter:
    return make_adapter(spec.adapter, learning_rate=learning_rate(spec), steps=spec.training.steps)


def learning_rate(spec: RunSpec) -> float:
    """The peak learning rate: the adapter's own, or the experiment's."""
    return spec.adapter.learning_rate or spec.training.learning_rate


def is_done(spec: RunSpec, folders: Folders) -> bool:
    """Whether the record on the disk is of this very run. Raises RecordError for a corrupt one."""
    path = folders.record(spec)
    if not path.exists() or not path.with_suffix(".parquet").exists():
        return False
    return read_record(path, RunRecord).fingerprint == fingerprint(identity(spec))


def check(spec: RunSpec) -> None:
    """Find what would stop a run before anything is trained: data, weights, targets, ranks.

    Fetches what is missing. Raises the packages' own errors.
    """
    task = make_task(spec)
    task.fetch()
    if task.head.kind == "own":
        if spec.training.gradient_checkpointing:
            raise ConfigError(f"{spec.experiment}: the model of {task.name} has no gradient checkpointing")
        model = task.build_model(spec.seed)
    else:
        models.fetch(spec.model)
        model = models.empty_model(spec.model, task.head)
        task.check_model(model)
    _adapter(spec).attach(model, spec.targets, heads=models.heads(model))


def run(spec: RunSpec, folders: Folders, listener: Listener | None = None) -> RunRecord | FailureRecord:
    """Do one run and write its record; a diverged one is written apart, as failed.

    Raises Interrupted when the listener asked to stop (the checkpoint is on the disk), and the
    packages' own errors for what the user can mend.
    """
    listener = listener or Listener()
    print_of_run = fingerprint(identity(spec))
    config = spec.model_dump() | {
        "task": make_task(spec).fingerprint(),
        "adapter": _resolved(spec),
        "learning_rate": learning_rate(spec),
    }
    checkpoint = Checkpoint(folders.checkpoint(spec), print_of_run, listener.checkpoint_seconds)
    try:
        record, predictions = _train_and_score(spec, print_of_run, config, checkpoint, listener)
    except RunFailed as failure:
        failed = FailureRecord(
            **_cell(spec),
            fingerprint=print_of_run,
            reason=failure.reason,
            step=failure.step,
            config=config,
            provenance=measure.provenance(),
        )
        write_record(folders.failure(spec), failed)
        folders.discard(spec)
        checkpoint.remove()
        return failed
    folders.discard(spec)
    path = folders.record(spec)
    write_predictions(path.with_suffix(".parquet"), predictions)
    write_record(path, record)
    folders.failure(spec).unlink(missing_ok=True)
    checkpoint.remove()
    return record


def _cell(spec: RunSpec) -> dict[str, Any]:
    return {"suite": spec.suite, "task": spec.experiment, "adapter": spec.label, "seed": spec.seed}


def method_fields(spec: RunSpec) -> dict[str, Any]:
    """What the suite calls the run's method, and where in its grid the run lies."""
    return {
        "method": spec.adapter.method or spec.label,
        "rank": rank_of(_resolved(spec)),
        "point": spec.adapter.point,
    }


def _train_and_score(
    spec: RunSpec, print_of_run: str, config: dict[str, Any], checkpoint: Checkpoint, listener: Listener
) -> tuple[RunRecord, Any]:
    started = time.perf_counter()
    settings = spec.training.model_copy(update={"learning_rate": learning_rate(spec)})
    task = make_task(spec)
    prepared = _prepared(json.dumps(spec.task, sort_keys=True), spec.model)
    measure.reset_peak_memory()
    accelerator = make_accelerator(settings.precision)
    model, adapter = _attached(spec, task, accelerator.device)
    counts = adapter.parameter_counts()
    selected_by = task.selection_metric or task.metric
    probe = measure.RankProbe(adapter)

    def observe(step: int) -> Observation:
        selection = None
        if settings.select == "best":
            metrics = _evaluate(task, model, "selection", step).metrics
            selection = metrics[selected_by]
        return Observation(
            step=step,
            selection=selection,
            accumulated_rank=probe.ranks(),
            gradient_rank=measure.gradient_ranks(model, adapter, task.loss, first),
        )

    work = Work(prepared.train, prepared.lengths, task.collate, task.loss)
    first = task.collate([prepared.train[i] for i in range(min(settings.batch_size, len(prepared.train)))])
    watch = Watch(observe, metric(selected_by).lower_is_better, listener.tick, listener.stopped)
    progress = train(
        model, adapter, work, settings, spec.seed,
        accelerator=accelerator, watch=watch, checkpoint=checkpoint,
    )  # fmt: skip
    trained = time.perf_counter()
    diagnostics = adapter.diagnostics()
    last, parity = _merge_and_score(task, model, adapter, progress.step)
    best = last
    best_step = progress.step
    if progress.best is not None and progress.best["step"] != progress.step:
        best_step = progress.best["step"]
        best = _score_state(spec, task, progress, accelerator.device)
    ended = time.perf_counter()
    record = RunRecord(
        **_cell(spec),
        **method_fields(spec),
        model=spec.model.name,
        fingerprint=print_of_run,
        config=config,
        protocol=_protocol(spec, task, prepared),
        metrics=Metrics(
            main=task.metric,
            lower_is_better=metric(task.metric).lower_is_better,
            best=best.metrics,
            last=last.metrics,
            best_step=best_step,
            last_step=progress.step,
            selection=selected_by,
        ),
        curve=progress.curve,
        observations=progress.observations,
        timings=Timings(
            median_step=float(
                torch.tensor(progress.curve.seconds[WARM_UP_STEPS:] or progress.curve.seconds).median()
            ),
            train=sum(progress.curve.seconds),
            score=ended - trained,
            total=ended - started,
        ),
        memory=measure.peak_memory(),
        parameters=Parameters(**counts),
        diagnostics=diagnostics,
        merge_parity=parity,
        provenance=measure.provenance(data_sha256=prepared.sha256, weights=str(identity(spec)["weights"])),
        predictions=f"{spec.cell}.parquet",
    )
    return record, best.predictions


def _attached(spec: RunSpec, task: tasks.Task, device: torch.device) -> tuple[nn.Module, adapters.Adapter]:
    model = models.load_model(spec.model, task, spec.seed)
    task.check_model(model)
    if spec.training.gradient_checkpointing:
        assert isinstance(model, PreTrainedModel)
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    adapter = _adapter(spec)
    draw = generator(spec.seed, "adapter")
    adapter.attach(model, spec.targets, heads=models.heads(model), generator=draw)
    return model.to(device), adapter


def _merge_and_score(
    task: tasks.Task, model: nn.Module, adapter: adapters.Adapter, step: int
) -> tuple[tasks.Score, MergeParity]:
    with evaluating(model):
        before = task.logits(model)
        merged = adapter.merge(model)
        parity = measure.merge_parity(before, task.logits(merged))
    return _evaluate(task, merged, "test", step), parity


def _score_state(spec: RunSpec, task: tasks.Task, progress: Progress, device: torch.device) -> tasks.Score:
    """The test score of the best observed state, on a fresh model: merging spent the trained one."""
    assert progress.best is not None
    model, adapter = _attached(spec, task, device)
    adapter.load_state_dict(progress.best["state"])
    return _evaluate(task, adapter.merge(model), "test", progress.best["step"])


def _evaluate(task: tasks.Task, model: nn.Module, split: tasks.Split, step: int) -> tasks.Score:
    score = task.score(model, split)
    for name, value in score.metrics.items():
        if not math.isfinite(value):
            raise RunFailed(f"{name} on the {split} split is {value}", step)
    return score


def _protocol(spec: RunSpec, task: tasks.Task, prepared: tasks.Prepared) -> dict[str, Any]:
    """What two results must share to stand in one column; what an adapter is free to choose
    (its hyperparameters and learning rate) is not in it."""
    shared = spec.training.model_dump(exclude={"learning_rate", "observe"})
    return {
        "task": spec.task["name"],
        "model": spec.model.name,
        "targets": spec.targets,
        **task.protocol(),
        "sizes": prepared.sizes,
        "truncated": prepared.truncated,
        "dropped": prepared.dropped,
        "data": prepared.sha256,
        **shared,
        "batches": "random order, bucketed by length, incomplete last batch dropped",
        "warm_start": "none",
        "selection_rule": "last step" if spec.training.select == "last" else "best on the selection split",
        "loop_version": LOOP_VERSION,
        "task_version": task.version,
    }
