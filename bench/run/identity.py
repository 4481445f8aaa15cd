"""What a run's numbers depend on, what its fingerprint is made from, and in what two of them differ."""

from __future__ import annotations

import functools
import json
from typing import Any

from torch import nn

from rankbench import adapters, tasks
from rankbench.bench.models import build as models
from rankbench.bench.records import LOOP_VERSION, SCHEMA_VERSION, fingerprint
from rankbench.bench.run import software
from rankbench.bench.suite import Model, RunSpec, make_adapter


def identity(spec: RunSpec) -> dict[str, Any]:
    """Everything that a run's numbers depend on; no download.

    Reads a mirror's files and a folder's weights: asked for once a run, then handed on.
    """
    task = make_task(spec)
    return {
        "schema": SCHEMA_VERSION,
        "loop": LOOP_VERSION,
        "software": software.of_adapters([spec.adapter.name]),
        "device": software.device(),
        "task": task.fingerprint(),
        "model": spec.model.name,
        "head": spec.model.head,
        "weights": "task's own" if task.head.kind == "own" else models.identity(spec.model),
        "targets": spec.targets,
        "training": spec.training.model_dump(exclude={"learning_rate"}),
        "learning_rate": learning_rate(spec),
        "adapter": {"version": adapters.version(spec.adapter.name), **resolved(spec)},
        "seed": spec.seed,
    }


def make_task(spec: RunSpec) -> tasks.Task:
    """The run's task, with nothing loaded yet."""
    return tasks.create(**spec.task)


def ready(spec: RunSpec, parts: dict[str, Any]) -> tuple[tasks.Task, tasks.Prepared]:
    """The task with its data prepared for the run's model: done once in this process for all runs that
    share both, by their contents in the identity `parts`. Raises the task's own errors."""
    contents = fingerprint({"task": parts["task"], "weights": parts["weights"]})
    return _ready(json.dumps(spec.task, sort_keys=True), spec.model, contents)


@functools.cache
def _ready(options: str, model: Model, _contents: str) -> tuple[tasks.Task, tasks.Prepared]:
    task = tasks.create(**json.loads(options))
    return task, task.prepare(None if task.head.kind == "own" else models.load_tokenizer(model))


def heads(spec: RunSpec, task: tasks.Task, model: nn.Module) -> list[str]:
    """The modules of the run's model that are trained whole beside its adapter."""
    return models.heads(model, None if task.head.kind == "own" else spec.model)


def adapter_of(spec: RunSpec) -> adapters.Adapter:
    """The run's adapter, not attached yet."""
    return make_adapter(spec.adapter, learning_rate=learning_rate(spec), steps=spec.training.steps)


def resolved(spec: RunSpec) -> dict[str, Any]:
    """The adapter's name with every hyperparameter, defaults too."""
    return {"name": spec.adapter.name, **adapter_of(spec).settings()}


def learning_rate(spec: RunSpec) -> float:
    """The peak learning rate: the adapter's own, or the experiment's."""
    return spec.adapter.learning_rate or spec.training.learning_rate
