"""What a suite will cost, before anything is downloaded: parameters, time and memory, roughly.

Operations of a step, per token: 2 P forward, 2 P backward to the activations, 2 T backward to the
weights, and 2 P again where activations are recomputed (gradient checkpointing). P counts the weights that a
token passes through, T those of them that are trained; embeddings, the vocabulary's product,
a vision tower, attention scores, an adapter's work between steps, data and scoring are left out: it is
right within a factor of about two. Seconds: over the speed of a few real steps here (`bench.cost.speed`).

PyTorch's FlopCounterMode agrees (a test), but misses products in place, as our layers do them, and has to run
the model: on shapes alone transformers' masks and DeBERTa's attention do not run.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from rankbench import tasks
from rankbench.adapters import Adapter, AdapterError
from rankbench.bench import models
from rankbench.bench.cost.speed import speed
from rankbench.bench.run.job import make_task
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, Training, make_adapter
from rankbench.bench.suite.described import adapter_of

FILL = 0.5
"""Mean length as a share of the maximum length, for lack of a look at the data."""

GPU_PEAK = {"bf16": 312e12, "no": 19.5e12}
"""Operations a second of one NVIDIA A100 by precision, from its data sheet (float32 without TF32)."""

UTILISATION = 0.4
"""The share of the peak that training reaches: assumed, not measured."""

TRIED = AdapterSpec(name="lora")
"""Whose steps are taken to find the speed of all: it needs no schedule and does nothing between them."""

ASSUMPTION = (
    f"GPU-hours = (4 P + 2 T) x tokens / ({UTILISATION:.0%} of an A100's peak: 312 TFLOP/s in bf16, 19.5 in "
    f"float32); P: weights that a token passes through, T: those trained, 6 P with gradient "
    f"checkpointing; tokens: {FILL:.0%} of the maximum length; scoring left out"
)

_NOT_PASSED = ("embed", "lm_head", "vision_tower", "multi_modal_projector")


@dataclass(frozen=True)
class Estimate:
    """`layers` that each entry of the targets names; `parameters` trained by the adapter (without the head);
    floating-point `operations` of the whole training; its seconds here in one process, hours on an A100; MiB
    at the peak of each process."""

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
    """Parameters of an adapted model, the tokens' way through it (P and T of the module's formula), the
    frozen ones that take folds, its layers and hidden units; no layers where the task brings its model."""

    layers: dict[str, int]
    adapter: int
    total: int
    trainable: int
    passed: int
    passed_trained: int
    folded: int
    depth: int
    width: int


def estimate(spec: RunSpec) -> Estimate:
    """The cost of one run. Raises the packages' own errors for what cannot be attached."""
    task, training = make_task(spec), spec.training
    adapter_of(spec)  # refuses what the run's own steps and learning rate do not allow
    length = _length(task)
    tokens = training.batch_size * length
    sizes = _sizes(*_cell(spec, task))
    tried = spec.model_copy(update={"adapter": TRIED})
    of_tried = _sizes(*_cell(tried, task))
    work = tokens * _per_token(of_tried, training)
    whole = training.model_copy(update={"processes": 1, "shard": False})
    speed_here = speed(tried, max(1, round(length)), work, _bytes(of_tried, tokens, whole, spec.model))
    needed = operations(spec)
    return Estimate(
        layers=sizes.layers,
        parameters=sizes.adapter,
        operations=needed,
        seconds=needed / speed_here,
        gpu_hours=needed / (GPU_PEAK[training.precision] * UTILISATION) / 3600,
        memory=_bytes(sizes, tokens, training, spec.model) / 1024**2,
    )


def operations(spec: RunSpec) -> float:
    """Floating-point operations of the whole training; tries no step. Raises as `estimate` does."""
    task, training = make_task(spec), spec.training
    tokens = training.batch_size * _length(task)
    return training.steps * training.accumulation * tokens * _per_token(_sizes(*_cell(spec, task)), training)


def peak_bytes(spec: RunSpec) -> float:
    """What each process of a run needs for weights, gradients, moments and activations; tries no step.
    Raises as `estimate` does."""
    task = make_task(spec)
    tokens = spec.training.batch_size * _length(task)
    return _bytes(_sizes(*_cell(spec, task)), tokens, spec.training, spec.model)


def _length(task: tasks.Task) -> float:
    """Tokens of a mean example."""
    return FILL * float(task.protocol().get("max_length") or 2)


def _cell(spec: RunSpec, task: tasks.Task) -> tuple[str, Model, tasks.Head, str, str, int]:
    """What the sizes of a run depend on: tasks that share a model share them, and so do learning rates."""
    own_task = json.dumps(spec.task) if task.head.kind == "own" else ""
    adapter = spec.adapter.model_dump_json(exclude={"learning_rate"})
    return own_task, spec.model, task.head, json.dumps(spec.targets), adapter, spec.training.steps


@functools.cache
def _sizes(own_task: str, model: Model, head: tasks.Head, targets: str, adapter: str, steps: int) -> _Sizes:
    """`own_task`: the options of a task that brings its model; that, targets and adapter as JSON."""

    def attached() -> tuple[nn.Module, Adapter]:
        if own_task:
            built = tasks.create(**json.loads(own_task)).build_model(0).to("meta")
        else:
            built = copy.deepcopy(_empty_model(model, head))
        spec = AdapterSpec.model_validate_json(adapter)
        made = make_adapter(spec, learning_rate=1e-3, steps=steps)
        heads = models.heads(built, None if own_task else model)
        return made.attach(built, json.loads(targets), heads=heads), made

    try:
        with _Shapes():
            built, made = attached()
    except AdapterError:  # a few of PEFT's methods compute with their first values
        built, made = attached()
    counts = made.parameter_counts()
    passed = [
        parameter
        for name, parameter in built.named_parameters()
        if not any(part in name for part in _NOT_PASSED)
    ]
    config = built.config.get_text_config() if isinstance(built, PreTrainedModel) else None
    return _Sizes(
        layers=made.matched,
        **counts,
        passed=sum(parameter.numel() for parameter in passed),
        passed_trained=sum(parameter.numel() for parameter in passed if parameter.requires_grad),
        folded=sum(made.plain(name).weight.numel() for name in made.layers) if made.moves_base else 0,
        depth=config.num_hidden_layers if config else 0,
        width=config.hidden_size if config else 0,
    )


_empty_model = functools.cache(models.empty_model)


def _per_token(sizes: _Sizes, training: Training) -> int:
    """Floating-point operations of a training step per token."""
    passes = 3 if training.gradient_checkpointing else 2
    return 2 * passes * sizes.passed + 2 * sizes.passed_trained


def _bytes(sizes: _Sizes, tokens: float, training: Training, model: Model) -> float:
    """Frozen weights as they are held, trained ones in float32; gradient and two moments of what is trained;
    what the backward pass needs: about 20 values a token, layer and hidden unit, and under autocast a
    half-precision copy of weights in float32. Recomputed activations leave one value a layer, and all that of
    one layer at a time. Of sharded weights a process has its part (of what is frozen, or of all where all is
    trained) and one layer."""
    half = training.precision == "bf16" or model.weights != "float32"
    activations = tokens * sizes.depth * sizes.width * (2 if half else 4)
    held = 20 * activations + (2 * sizes.total if half and model.weights == "float32" else 0)
    if training.gradient_checkpointing and sizes.depth:
        held = held / sizes.depth + activations
    parts = training.processes if training.shard else 1
    frozen = _frozen_bytes(sizes, model)
    trained = 4 * sizes.trainable / (1 if frozen else parts)
    if training.shard and sizes.depth:
        held += (frozen + 4 * sizes.trainable) / sizes.depth
    return frozen / parts + 4 * trained + held


def _frozen_bytes(sizes: _Sizes, model: Model) -> float:
    """Two bytes a bfloat16 weight, and two of what it rounds away where it takes folds; NF4's half a byte and
    float32 scale for each block of 64, but for what tokens do not pass through."""
    frozen, passed = sizes.total - sizes.trainable, sizes.passed - sizes.passed_trained
    if model.weights == "float32":
        return 4 * frozen
    if model.weights == "bfloat16":
        return 2 * (frozen + sizes.folded)
    return 2 * (frozen - passed) + (1 / 2 + 4 / 64) * passed
