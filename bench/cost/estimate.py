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

import copy
import functools
import json
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from rankbench import tasks
from rankbench.adapters import Adapter, AdapterError
from rankbench.bench import models
from rankbench.bench.run.job import learning_rate, make_task
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training, make_adapter

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
    """`layers` that each entry of the targets names; `parameters` trained by the adapter (without the
    head); floating-point `operations` of the
    whole training; its seconds here; GPU-hours on one A100; MiB at the peak."""

    layers: dict[str, int]
    parameters: int
    operations: float
    seconds: float
    gpu_hours: float
    memory: float


class _Shapes(TorchFunctionMode):
    """New factors get a shape and no values: rank 2048 on 7 billion weights would take minutes to draw."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        if func in (torch.empty, torch.zeros, torch.randn):
            kwargs = {**kwargs, "device": "meta"}
        return func(*args, **kwargs)


@dataclass(frozen=True)
class _Sizes:
    """Parameters of an adapted model, the tokens' way through it (P and T of the module's formula),
    its layers and hidden units; no layers where the task brings its own model."""

    layers: dict[str, int]
    adapter: int
    total: int
    trainable: int
    passed: int
    passed_trained: int
    depth: int
    width: int


def estimate(spec: RunSpec) -> Estimate:
    """The cost of one run. Raises the packages' own errors for what cannot be attached."""
    task, training = make_task(spec), spec.training
    make_adapter(spec.adapter, learning_rate=learning_rate(spec), steps=training.steps)
    sizes = _sizes(
        json.dumps(spec.task) if task.head.kind == "own" else None,
        spec.model,
        task.head,
        spec.targets if isinstance(spec.targets, str) else tuple(spec.targets),
        spec.adapter.model_dump_json(exclude={"learning_rate"}),
        training.steps,
    )
    tokens = training.batch_size * _length(task)
    operations = training.steps * training.accumulation * tokens * _per_token(sizes, training)
    return Estimate(
        layers=sizes.layers,
        parameters=sizes.adapter,
        operations=operations,
        seconds=operations / _speed(),
        gpu_hours=operations / (GPU_PEAK[training.precision] * UTILISATION) / 3600,
        memory=_bytes(sizes, tokens, training) / 1024**2,
    )


@functools.cache
def _sizes(
    own_task: str | None,
    name: Model,
    head: tasks.Head,
    targets: str | tuple[str, ...],
    adapter: str,
    steps: int,
) -> _Sizes:
    """Tasks that share a model share this: the learning rate changes no size."""
    try:
        with _Shapes():
            model, made = _attached(own_task, name, head, targets, adapter, steps)
    except AdapterError:  # a few of PEFT's methods compute with their first values
        model, made = _attached(own_task, name, head, targets, adapter, steps)
    counts = made.parameter_counts()
    passed = [
        parameter
        for name, parameter in model.named_parameters()
        if not any(part in name for part in _NOT_PASSED)
    ]
    config = model.config.get_text_config() if isinstance(model, PreTrainedModel) else None
    return _Sizes(
        layers=made.matched,
        **counts,
        passed=sum(parameter.numel() for parameter in passed),
        passed_trained=sum(parameter.numel() for parameter in passed if parameter.requires_grad),
        depth=config.num_hidden_layers if config else 0,
        width=config.hidden_size if config else 0,
    )


def _attached(
    own_task: str | None,
    name: Model,
    head: tasks.Head,
    targets: str | tuple[str, ...],
    adapter: str,
    steps: int,
) -> tuple[nn.Module, Adapter]:
    if own_task is not None:
        model = tasks.create(**json.loads(own_task)).build_model(0).to("meta")
    else:
        model = copy.deepcopy(_empty_model(name, head))
    made = make_adapter(AdapterSpec.model_validate_json(adapter), learning_rate=1e-3, steps=steps)
    heads = models.heads(model, None if own_task is not None else name)
    return made.attach(model, targets, heads=heads), made


@functools.cache
def _empty_model(model: Model, head: tasks.Head) -> nn.Module:
    return models.empty_model(model, head)


def _per_token(sizes: _Sizes, training: Training) -> int:
    """Floating-point operations of a training step per token."""
    passes = 3 if training.gradient_checkpointing else 2
    return 2 * passes * sizes.passed + 2 * sizes.passed_trained


def _bytes(sizes: _Sizes, tokens: float, training: Training) -> float:
    """Float32 weights; gradient and two moments of what is trained; what the backward pass needs:
    about 20 values a token, layer and hidden unit, and under autocast a half-precision copy of the
    weights. Recomputed activations leave one value a layer, and all that of one layer at a time."""
    half = training.precision == "bf16"
    activations = tokens * sizes.depth * sizes.width * (2 if half else 4)
    held = 20 * activations + (2 * sizes.total if half else 0)
    if training.gradient_checkpointing and sizes.depth:
        held = held / sizes.depth + activations
    return 4 * (sizes.total + 3 * sizes.trainable) + held


def _length(task: tasks.Task) -> float:
    return FILL * float(task.protocol().get("max_length") or 2)


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
