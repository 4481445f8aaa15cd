"""What a suite will cost, before anything is downloaded: parameters, time and memory, roughly.

Time: 4 floating-point operations per weight and token for a frozen model's step (forward, and
backward to the activations), 6 where every weight is trained, over the speed of a matrix product
on this machine. It is an estimate within a factor of about two, data loading and scoring left out.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

import tasks
from bench import models
from bench.config import RunSpec, make_adapter
from bench.runner import learning_rate, make_task

FILL = 0.5
"""Mean length as a share of the maximum length, for lack of a look at the data."""


@dataclass(frozen=True)
class Estimate:
    """`parameters` trained by the adapter (without the head), seconds of training, MiB at the peak."""

    parameters: int
    seconds: float
    memory: float


def estimate(spec: RunSpec) -> Estimate:
    """The cost of one run. Raises the packages' own errors for what cannot be attached."""
    task = make_task(spec)
    adapter = make_adapter(spec.adapter, learning_rate=learning_rate(spec), steps=spec.training.steps)
    model = task.build_model(0) if task.head.kind == "own" else models.empty_model(spec.model, task.head)
    adapter.attach(model, spec.targets)
    counts = adapter.parameter_counts()
    tokens = spec.training.batch_size * _length(task)
    trains_all = counts["trainable"] == counts["total"]
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    operations = (6 if trains_all else 4) * body * tokens * spec.training.accumulation
    # Weights, then gradient and two moments of what is trained, then about 20 values a token,
    # layer and hidden unit held for the backward pass.
    values = counts["total"] + 3 * counts["trainable"] + 20 * tokens * _depth_times_width(model)
    return Estimate(counts["adapter"], spec.training.steps * operations / _speed(), values * 4 / 1024**2)


def _length(task: tasks.Task) -> float:
    return FILL * float(task.protocol().get("max_length") or 2)


def _depth_times_width(model: torch.nn.Module) -> int:
    if not isinstance(model, PreTrainedModel):
        return 0
    return int(model.config.num_hidden_layers * model.config.hidden_size)


@functools.cache
def _speed() -> float:
    """Operations a second of a matrix product of a training step's usual shape."""
    size = 1024
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.ones(size, size, device=device)
    (x @ x).sum().item()
    started = time.perf_counter()
    for _ in range(5):
        y = x @ x
    y.sum().item()
    return 5 * 2 * size**3 / (time.perf_counter() - started)
