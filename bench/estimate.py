"""What a suite will cost, before anything is downloaded: parameters, time and memory, roughly.

Operations of a step, per token: 2 P forward, 2 P backward to the activations, 2 T backward to the
weights, and 2 P again where activations are recomputed (gradient checkpointing). P counts the
weights that a token passes through, frozen ones and the adapter's: not the embeddings, the vocabulary's
product (taken for answers only) or a vision tower; T counts those of them that are trained.
That is 4 P + 2 T for an adapter, 6 P for full fine-tuning. Attention scores, an adapter's own work
between steps, data loading and scoring are left out: it is an estimate within a factor of about two.

Seconds: over the speed of a matrix product on this machine. GPU-hours: over `GPU_PEAK` times
`UTILISATION`.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

import tasks
from bench import models
from bench.config import RunSpec, Training, make_adapter
from bench.runner import learning_rate, make_task

FILL = 0.5
"""Mean length as a share of the maximum length, for lack of a look at the data."""

GPU_PEAK = {"bf16": 312e12, "no": 19.5e12}
"""Operations a second of one NVIDIA A100 by precision, from its data sheet (float32 without TF32)."""

UTILISATION = 0.4
"""The share of the peak that training reaches: assumed, not measured."""

ASSUMPTION = (
    f"GPU-hours = (4 P + 2 T) x tokens / ({UTILISATION:.0%} of an A100's peak: 312 TFLOP/s in bf16, 19.5 in "
    f"float32); P: weights that a token passes through, T: those trained, 6 P with gradient "
    f"checkpointing; tokens: {FILL:.0%} of the maximum length; scoring left out"
)

_NOT_PASSED = ("embed", "lm_head", "vision_tower", "multi_modal_projector")


@dataclass(frozen=True)
class Estimate:
    """`parameters` trained by the adapter (without the head); floating-point `operations` of the
    whole training; its seconds here; GPU-hours on one A100; MiB at the peak."""

    parameters: int
    operations: float
    seconds: float
    gpu_hours: float
    memory: float


class _Shapes(TorchFunctionMode):
    """New factors get a shape and no values: rank 2048 on 7 billion weights would take minutes to draw."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros):
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


def estimate(spec: RunSpec) -> Estimate:
    """The cost of one run. Raises the packages' own errors for what cannot be attached."""
    task = make_task(spec)
    adapter = make_adapter(spec.adapter, learning_rate=learning_rate(spec), steps=spec.training.steps)
    own = task.head.kind == "own"
    model = task.build_model(0).to("meta") if own else models.empty_model(spec.model, task.head)
    with _Shapes():
        adapter.attach(model, spec.targets)
    counts, training = adapter.parameter_counts(), spec.training
    tokens = training.batch_size * _length(task)
    operations = training.steps * training.accumulation * tokens * operations_per_token(model, training)
    return Estimate(
        parameters=counts["adapter"],
        operations=operations,
        seconds=operations / _speed(),
        gpu_hours=operations / (GPU_PEAK[training.precision] * UTILISATION) / 3600,
        memory=_bytes(model, counts, tokens, training) / 1024**2,
    )


def operations_per_token(model: nn.Module, training: Training) -> int:
    """Floating-point operations of a training step per token, as the module says; `model` is adapted."""
    passed = [
        parameter
        for name, parameter in model.named_parameters()
        if not any(part in name for part in _NOT_PASSED)
    ]
    weights = sum(parameter.numel() for parameter in passed)
    trained = sum(parameter.numel() for parameter in passed if parameter.requires_grad)
    passes = 3 if training.gradient_checkpointing else 2
    return 2 * passes * weights + 2 * trained


def _bytes(model: nn.Module, counts: dict[str, int], tokens: float, training: Training) -> float:
    """Float32 weights; gradient and two moments of what is trained; what the backward pass needs:
    about 20 values a token, layer and hidden unit, and under autocast a half-precision copy of the
    weights. Recomputed activations leave one value a layer, and all that of one layer at a time."""
    depth, width = _shape(model)
    half = training.precision == "bf16"
    held = 20 * tokens * depth * width * (2 if half else 4) + (2 * counts["total"] if half else 0)
    if training.gradient_checkpointing and depth:
        held = held / depth + tokens * depth * width * (2 if half else 4)
    return 4 * (counts["total"] + 3 * counts["trainable"]) + held


def _length(task: tasks.Task) -> float:
    return FILL * float(task.protocol().get("max_length") or 2)


def _shape(model: nn.Module) -> tuple[int, int]:
    """Layers and hidden units; no layers where the task brings its own model."""
    if not isinstance(model, PreTrainedModel):
        return 0, 0
    config = model.config.get_text_config()
    return config.num_hidden_layers, config.hidden_size


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
