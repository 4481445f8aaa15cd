"""How fast this machine trains: a few real steps with random weights and random tokens; no download. Weights
are in the precision that they are held in; four bits are tried as the bfloat16 that they are unpacked to.

A model whose step is too large to try takes the speed of a matrix product.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from rankbench.bench import models
from rankbench.bench.cost.rounds import Step
from rankbench.bench.cost.step import RandomTokens, training_step
from rankbench.bench.cpu.dropout import use_cheap_dropout
from rankbench.bench.cpu.quota import fitting
from rankbench.bench.models import precision
from rankbench.bench.run.job import make_task
from rankbench.bench.run.start import attach, recompute_activations
from rankbench.bench.run.step import make_accelerator
from rankbench.bench.suite import Model, RunSpec

TRY_SECONDS = 0.5
"""Of steps after the first; at least two of them."""

LARGEST_SECONDS = 3.0
LARGEST_BYTES = 2 * 1024**3
"""A step that by a matrix product's speed takes longer, or needs more, is not tried."""


@dataclass(frozen=True)
class _Workload:
    """What the seconds of a step depend on, and one of the runs that have it."""

    key: tuple[Model, str, str, int, int, str, bool]
    spec: RunSpec = field(compare=False)
    length: int = field(compare=False)


def speed(spec: RunSpec, length: int, operations: float, memory: float) -> float:
    """Operations a second of the steps of a run.

    `length` in tokens; `operations` of a micro-batch and `memory` in bytes decide whether it is tried.
    """
    if operations / _matrix_speed() > LARGEST_SECONDS or memory > LARGEST_BYTES:
        return _matrix_speed()
    own_task = json.dumps(spec.task) if make_task(spec).head.kind == "own" else ""
    recipe = spec.training
    how = recipe.batch_size, length, recipe.precision, recipe.gradient_checkpointing
    work = _Workload((spec.model, own_task, json.dumps(spec.targets), *how), spec, length)
    return operations / _seconds_of_a_step(work)


@cache
def _seconds_of_a_step(work: _Workload) -> float:
    with torch.random.fork_rng(), fitting():
        step = _step(work.spec, work.length)
        step(0)  # allocates, and leaves the adapter's zero start
        seconds: list[float] = []
        while len(seconds) < 2 or sum(seconds) < TRY_SECONDS:
            seconds.append(step(1))
    return statistics.median(seconds)


def _step(spec: RunSpec, length: int) -> Step:
    task, training = make_task(spec), spec.training
    accelerator = make_accelerator(training.precision)
    if task.head.kind == "own":
        model, examples = task.build_model(0), task.prepare(None).train
        batch = task.collate([examples[i] for i in range(min(len(examples), training.batch_size))])
        loss = task.loss
    else:
        shape: Any = models.empty_model(spec.model, task.head)
        model = type(shape)._from_config(shape.config, dtype=precision.dtype_of(spec.model))
        if spec.model.weights != "float32":
            precision.keep_apart(model, models.heads(shape, spec.model))
        tokens = RandomTokens(task.head.kind == "causal", training.batch_size, length)
        batch, loss = tokens.draw(model.config), tokens.loss
    if training.gradient_checkpointing:
        recompute_activations(model)
    use_cheap_dropout(model)
    adapter = attach(spec, task, model)
    return training_step(model.to(accelerator.device), adapter, training, batch, loss, accelerator)


@cache
def _matrix_speed() -> float:
    """Operations a second of a matrix product of a training step's usual shape: the best of five."""
    size = 1024
    x = torch.ones(size, size, device="cuda" if torch.cuda.is_available() else "cpu")
    (x @ x).sum().item()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        (x @ x).sum().item()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)
