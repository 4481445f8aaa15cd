"""Where a run starts: its data, encoded once for all that share them, and its model with the adapter."""

from __future__ import annotations

import functools
import gc
import json
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rankbench import adapters, tasks
from rankbench.adapters.base import FirstBatch
from rankbench.bench import models
from rankbench.bench.records import fingerprint
from rankbench.bench.records.fingerprint import differences
from rankbench.bench.run import knowledge, scores
from rankbench.bench.run.called import calls, reached, refuse_uncalled
from rankbench.bench.run.job import Job, make_task, resolve
from rankbench.bench.run.sharding import in_turn, shard
from rankbench.bench.run.train import Work
from rankbench.bench.seeds import batches, generator
from rankbench.bench.suite import ConfigError, Model, RunSpec, Training, plugged
from rankbench.bench.suite.described import adapter_of


def prepare(job: Job) -> list[str]:
    """Have the run's data encoded, for all runs with the same data and model.

    Returns what a user should know of them: a split smaller than asked for, items that are cut, batches that
    they do not fill.
    Fetches what is missing. Raises the packages' own errors.
    """
    task = make_task(job.spec)
    task.fetch()
    if task.head.kind != "own":
        models.fetch(job.spec.model)
    _, prepared = ready(job)
    batch, count = job.spec.training.batch_size, len(prepared.train)
    few = f"train: batches of {batch} asked for, of {count} used: there are no more items"
    return prepared.notes() + ([few] if count < batch else [])


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
    adapter_of(spec).attach(model, spec.targets, heads=_heads(spec, task, model))


def differing(job: Job) -> list[str]:
    """What of all that the run depends on is not on this machine as it was where it was resolved: its record
    would lie. Fetches what is missing. Raises the packages' own errors.
    """
    prepare(job)
    return differences(job.identity, resolve(job.spec).identity)


def ready(job: Job) -> tuple[tasks.Task, tasks.Prepared]:
    """The task with its data prepared for the run's model: done once in this process for all runs that
    share both, by their contents. Raises the task's own errors, and for metrics that are not defined on the
    selection split where the run is scored or selected on it."""
    plugged.use(job.spec.plugins)
    parts = ("task", "weights", "plugins")
    contents = fingerprint({part: job.identity[part] for part in parts if part in job.identity})
    task, prepared = _ready(json.dumps(job.spec.task, sort_keys=True), job.spec.model, contents)
    _check_selection(job.spec, task)
    return task, prepared


def _check_selection(spec: RunSpec, task: tasks.Task) -> None:
    if spec.scored_on == "selection":
        told = "trials are scored on it; choose another metric or selection split"
    elif spec.training.select == "best":
        told = "`select: best` is scored on it; choose another metric or selection split, or `select: last`"
    else:
        return
    try:
        task.check_split("selection")
    except tasks.TaskError as error:
        raise tasks.TaskError(f"{error} {told}") from error


@functools.cache
def _ready(options: str, model: Model, _contents: str) -> tuple[tasks.Task, tasks.Prepared]:
    task = tasks.create(**json.loads(options))
    return task, task.prepare(None if task.head.kind == "own" else models.load_tokenizer(model))


def load(spec: RunSpec, task: tasks.Task, device: torch.device) -> nn.Module:
    """The run's model, ready to be trained but for the adapter: borrowed, on the device; its own, in main
    memory, where the task makes it or several processes share it out."""
    model = models.load_model(spec.model, task, spec.seed, None if spec.training.shard else device)
    task.check_model(model)
    if spec.training.gradient_checkpointing:
        recompute_activations(model)
    return model


def recompute_activations(model: nn.Module) -> None:
    """In the backward pass, rather than keep them: gradient checkpointing."""
    assert isinstance(model, PreTrainedModel)
    model.activation_checkpointing_enable()
    model.enable_input_require_grads()


def attach(spec: RunSpec, task: tasks.Task, model: nn.Module) -> adapters.Adapter:
    """The run's adapter. Its start does not depend on the device that the model lies on."""
    adapter = adapter_of(spec)
    draw = generator(spec.seed, "adapter")
    adapter.attach(model, spec.targets, heads=_heads(spec, task, model), generator=draw)
    return adapter


def attached(spec: RunSpec, task: tasks.Task, device: torch.device) -> tuple[nn.Module, adapters.Adapter]:
    """Model and adapter as the run starts with them. Processes that share out the weights have to ask for it
    together: one after the other has the model whole, in main memory."""

    def made() -> tuple[nn.Module, adapters.Adapter]:
        model = load(spec, task, device)
        adapter = attach(spec, task, model)
        return shard(model, device) if spec.training.shard else model.to(device), adapter

    return in_turn(made) if spec.training.shard else made()


class Start(NamedTuple):
    """A run before its first step."""

    model: nn.Module
    adapter: adapters.Adapter
    distance: float
    """The largest difference that attaching, and a start that reads data, make to an output."""
    knew: Tensor | None
    """What the pretrained model makes of the general text: `knowledge.pretrained`."""


def begin(spec: RunSpec, task: tasks.Task, work: Work, device: torch.device) -> Start:
    """As `attached`, with what the adapter's start reads of the data, and what the model was before.

    Raises ConfigError for target layers that the model does not call, with `attached`'s errors."""

    def seen(model: nn.Module) -> tuple[Tensor, Tensor | None, set[str]]:
        with calls() as called:
            before = scores.logits(task, model)
        knew = knowledge.pretrained(model, spec.model, task.head, spec.seed)
        return before, knew, reached(model, called)

    if spec.training.shard:  # no device has room for a whole model, nor for the parts of two
        before, knew, there = seen(in_turn(lambda: shard(load(spec, task, device), device)))
        gc.collect()
        model, adapter = attached(spec, task, device)
    else:
        model = load(spec, task, device).to(device)
        before, knew, there = seen(model)
        adapter = attach(spec, task, model)
        model.to(device)
    refuse_uncalled(adapter, there, spec.experiment)
    read_data(adapter, work, spec.training, spec.seed)
    return Start(model, adapter, float((scores.logits(task, model) - before).abs().max()), knew)


def read_data(adapter: adapters.Adapter, work: Work, settings: Training, seed: int) -> None:
    """Give an attached adapter the micro-batches that its run begins with, for a start that reads them."""
    model = adapter.model
    training, device = model.training, next(model.parameters()).device
    count = settings.steps * settings.accumulation

    def first_batches() -> Iterator[FirstBatch]:
        for indices in batches(work.lengths, settings.batch_size, count, seed):
            batch = work.collate([work.examples[i] for i in indices]).to(device)
            yield FirstBatch(batch.inputs, functools.partial(_mean_loss, work, model, batch))

    model.eval()
    adapter.before_training(first_batches())
    model.train(training)


def _mean_loss(work: Work, model: nn.Module, batch: tasks.Batch) -> Tensor:
    return work.loss(model, batch.inputs) / batch.weight


def _heads(spec: RunSpec, task: tasks.Task, model: nn.Module) -> list[str]:
    """The modules that are trained whole beside the adapter."""
    return models.heads(model, None if task.head.kind == "own" else spec.model)
