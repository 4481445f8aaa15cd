"""From one run specification to one record on the disk: load, attach, train, merge, score, write."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from rankbench import adapters, tasks
from rankbench.bench.models import build as models
from rankbench.bench.records import (
    LOOP_VERSION,
    Curve,
    FailureRecord,
    Folders,
    MergeParity,
    Metrics,
    Observation,
    Parameters,
    RecordError,
    RunRecord,
    Timings,
    fingerprint,
    write_atomically,
    write_record,
)
from rankbench.bench.records.files import remove
from rankbench.bench.records.labels import rank_of
from rankbench.bench.records.predictions import packed
from rankbench.bench.run import measure
from rankbench.bench.run.checkpoint import Checkpoint, Progress
from rankbench.bench.run.failures import Failure, attempt
from rankbench.bench.run.identity import (
    adapter_of,
    heads,
    identity,
    learning_rate,
    make_task,
    ready,
    resolved,
)
from rankbench.bench.run.measure import Usage
from rankbench.bench.run.seeds import generator
from rankbench.bench.run.train import RunFailed, Watch, Work, full_precision, make_accelerator, train
from rankbench.bench.suite import ConfigError, RunSpec
from rankbench.tasks.metrics import metric
from rankbench.tasks.scoring import evaluating

WARM_UP_STEPS = 3
"""Steps left out of the median step time."""

DISTANCE = "distance_at_start"
"""Diagnostic of every run: the largest difference that attaching makes to an output, on the parity items."""


@dataclass(frozen=True)
class Listener:
    """How a caller follows a run: `tick` after each step, `stopped` to ask for an early end."""

    tick: Callable[[Curve], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = 60.0


def prepare(spec: RunSpec, parts: dict[str, Any]) -> list[str]:
    """Have the run's data encoded, for all runs with the same data and model; `parts`: its identity.

    Returns what a user should know of them: a split smaller than asked for, items that are cut.
    Fetches what is missing. Raises the packages' own errors.
    """
    task = make_task(spec)
    task.fetch()
    if task.head.kind != "own":
        models.fetch(spec.model)
    _, prepared = ready(spec, parts)
    return prepared.notes()


def check(spec: RunSpec) -> None:
    """Find what would stop a run before anything is trained: weights, targets, ranks.

    Fetches what is missing. Raises the packages' own errors.
    """
    task = make_task(spec)
    if task.head.kind == "own":
        if spec.training.gradient_checkpointing:
            raise ConfigError(f"{spec.experiment}: the model of {task.name} has no gradient checkpointing")
        model = task.build_model(spec.seed)
    else:
        models.fetch(spec.model)
        model = models.empty_model(spec.model, task.head)
        task.check_model(model)
    adapter_of(spec).attach(model, spec.targets, heads=heads(spec, task, model))


def run(
    spec: RunSpec, folders: Folders, listener: Listener | None = None, parts: dict[str, Any] | None = None
) -> RunRecord | FailureRecord:
    """Do one run and write its record; one that fails, however it fails, is written apart.

    `parts`: the run's identity, where the caller has it. Raises Interrupted when the listener asked to
    stop (the checkpoint is on the disk), RecordError where not even a failure can be written.
    """
    listener = listener or Listener()
    parts = identity(spec) if parts is None else parts
    checkpoint = Checkpoint(folders.checkpoint(spec.cell), fingerprint(parts), listener.checkpoint_seconds)

    def work() -> RunRecord:
        record, predictions = _train_and_score(spec, parts, checkpoint, listener)
        _write(spec, folders, record, predictions)
        return record

    ended = attempt(work)
    if isinstance(ended, Failure):
        return record_failure(spec, folders, parts, ended)
    folders.failure(spec.cell).unlink(missing_ok=True)
    checkpoint.remove()
    return ended


def _write(spec: RunSpec, folders: Folders, record: RunRecord, predictions: bytes) -> None:
    """Both files or neither, in the place of older ones."""
    folders.discard(spec.cell)
    try:
        write_atomically(folders.predictions(spec.cell), predictions)
        write_record(folders.record(spec.cell), record)
    except RecordError:
        folders.discard(spec.cell)
        raise


def record_failure(spec: RunSpec, folders: Folders, parts: dict[str, Any], failure: Failure) -> FailureRecord:
    """Write why a run has no result. `parts`: its identity, empty where that could not be told.

    One that would come again takes the place of an older record, and has no use for its checkpoint.
    """
    failed = FailureRecord(
        **_cell(spec),
        fingerprint=fingerprint(parts) if parts else "",
        identity=parts,
        **vars(failure),
        config=_config(spec, parts),
        provenance=measure.provenance(),
    )
    write_record(folders.failure(spec.cell), failed)
    if failed.comes_again:
        folders.discard(spec.cell)
        remove(folders.checkpoint(spec.cell))
    return failed


def _config(spec: RunSpec, parts: dict[str, Any]) -> dict[str, Any]:
    return spec.model_dump() | {
        "task": parts.get("task", spec.task),
        "adapter": resolved(spec),
        "learning_rate": learning_rate(spec),
    }


def _cell(spec: RunSpec) -> dict[str, Any]:
    return {"suite": spec.suite, "task": spec.experiment, "adapter": spec.label, "seed": spec.seed}


def method_fields(spec: RunSpec) -> dict[str, Any]:
    """What the suite says of the run's method, and where in its grid the run lies."""
    return {
        "method": spec.adapter.method or spec.label,
        "rank": rank_of(resolved(spec)),
        "point": spec.adapter.point,
        "tuned": spec.adapter.tuned,
        "baseline": spec.baseline,
    }


def _train_and_score(
    spec: RunSpec, parts: dict[str, Any], checkpoint: Checkpoint, listener: Listener
) -> tuple[RunRecord, bytes]:
    """The record, and the predictions as Parquet."""
    checkpoint.usage = Usage()
    measure.reset_peak_memory()
    task, prepared = ready(spec, parts)
    accelerator = make_accelerator(spec.training.precision)
    selected_by = task.selection_metric or task.metric
    trained = _train(spec, task, prepared, accelerator, checkpoint, listener)
    progress, counts, diagnostics = trained.progress, trained.counts, trained.diagnostics
    layers, trained_whole = trained.adapter.matched, trained.adapter.heads
    started = time.perf_counter()
    last, parity = _merge_and_score(task, trained.model, trained.adapter, progress.step)
    # Before another model is built: the trained one has nothing left to tell.
    del trained
    best, best_step = last, progress.step
    if progress.best is not None and progress.best["step"] != progress.step:
        best_step = progress.best["step"]
        best = _score_state(spec, task, progress.best, accelerator.device)
    record = RunRecord(
        **_cell(spec),
        **method_fields(spec),
        model=spec.model.name,
        fingerprint=fingerprint(parts),
        identity=parts,
        config=_config(spec, parts),
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
            score=time.perf_counter() - started,
            total=checkpoint.usage.seconds,
            legs=checkpoint.usage.legs,
        ),
        memory=checkpoint.usage.memory,
        parameters=Parameters(**counts),
        layers=layers,
        heads=trained_whole,
        diagnostics=diagnostics,
        merge_parity=parity,
        provenance=measure.provenance(data_sha256=prepared.sha256, weights=str(parts["weights"])),
        predictions=f"{spec.cell}.parquet",
    )
    return record, packed(best.predictions)


@dataclass
class _Trained:
    model: nn.Module
    adapter: adapters.Adapter
    progress: Progress
    counts: dict[str, int]
    diagnostics: dict[str, Any]


def _train(
    spec: RunSpec,
    task: tasks.Task,
    prepared: tasks.Prepared,
    accelerator: Accelerator,
    checkpoint: Checkpoint,
    listener: Listener,
) -> _Trained:
    settings = spec.training.model_copy(update={"learning_rate": learning_rate(spec)})
    model = _loaded(spec, task).to(accelerator.device)
    pretrained = _logits(task, model)
    # On the CPU, where a start does not depend on the device.
    adapter = _attach(spec, task, model.cpu())
    distance = float((_logits(task, model.to(accelerator.device)) - pretrained).abs().max())
    counts = adapter.parameter_counts()
    selected_by = task.selection_metric or task.metric
    probe = measure.RankProbe(adapter)

    def observe(step: int) -> Observation:
        selection = None
        if settings.select == "best":
            with full_precision(model):
                metrics = _evaluate(task, model, "selection", step).metrics
            selection = metrics[selected_by]
        gradients = measure.gradient_ranks(model, adapter, task.loss, first)
        return Observation(
            step=step,
            selection=selection,
            accumulated_rank=probe.ranks(),
            gradient_rank=gradients.ranks,
            one_position=gradients.one_position,
        )

    work = Work(prepared.train, prepared.lengths, task.collate, task.loss)
    first = task.collate([prepared.train[i] for i in range(min(settings.batch_size, len(prepared.train)))])
    watch = Watch(observe, metric(selected_by).lower_is_better, listener.tick, listener.stopped)
    progress = train(
        model, adapter, work, settings, spec.seed,
        accelerator=accelerator, watch=watch, checkpoint=checkpoint,
    )  # fmt: skip
    return _Trained(model, adapter, progress, counts, {DISTANCE: distance, **adapter.diagnostics()})


def _loaded(spec: RunSpec, task: tasks.Task) -> nn.Module:
    model = models.load_model(spec.model, task, spec.seed)
    task.check_model(model)
    if spec.training.gradient_checkpointing:
        assert isinstance(model, PreTrainedModel)
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    return model


def _attach(spec: RunSpec, task: tasks.Task, model: nn.Module) -> adapters.Adapter:
    adapter = adapter_of(spec)
    draw = generator(spec.seed, "adapter")
    adapter.attach(model, spec.targets, heads=heads(spec, task, model), generator=draw)
    return adapter


def _attached(spec: RunSpec, task: tasks.Task, device: torch.device) -> tuple[nn.Module, adapters.Adapter]:
    model = _loaded(spec, task)
    adapter = _attach(spec, task, model)
    return model.to(device), adapter


def _merge_and_score(
    task: tasks.Task, model: nn.Module, adapter: adapters.Adapter, step: int
) -> tuple[tasks.Score, MergeParity]:
    before = _logits(task, model)
    merged = adapter.merge(model)
    parity = measure.merge_parity(before, _logits(task, merged))
    return _evaluate(task, merged, "test", step), parity


def _logits(task: tasks.Task, model: nn.Module) -> torch.Tensor:
    with evaluating(model):
        return task.logits(model)


def _score_state(spec: RunSpec, task: tasks.Task, best: dict[str, Any], device: torch.device) -> tasks.Score:
    """The test score of the best observed state, on a fresh model: merging spent the trained one."""
    model, adapter = _attached(spec, task, device)
    adapter.load_state_dict(best["state"])
    return _evaluate(task, adapter.merge(model), "test", best["step"])


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
        "batches": "random order, bucketed by length, what fills no last batch left out at random",
        "warm_start": "none" if spec.model.head == "fresh" else "the checkpoint's head",
        "selection_rule": "last step" if spec.training.select == "last" else "best on the selection split",
        "loop_version": LOOP_VERSION,
        "task_version": task.version,
    }
