"""How large a run's model is with its adapter: counted on shapes, nothing is downloaded."""

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
from rankbench.adapters.layers import weight_of
from rankbench.bench import models
from rankbench.bench.run.probes import probed
from rankbench.bench.suite import AdapterSpec, Model, RunSpec, make_adapter
from rankbench.bench.suite.described import adapter_of

_NOT_PASSED = ("embed", "lm_head", "vision_tower", "multi_modal_projector")


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
class Sizes:
    """Parameters of an adapted model, the tokens' way through it (P and T of `bench.cost.estimate`), weights
    of the adapted layers, of the largest one and of those whose ranks are looked at, and bytes of all that
    training moves."""

    layers: dict[str, int]
    adapter: int
    total: int
    trainable: int
    passed: int
    passed_trained: int
    adapted: int
    largest: int
    probed: int
    state: int
    kind: tuple[Any, ...]
    """What a step's memory depends on beside the model: what is trained, the layers, and what is done around
    an optimizer step."""


shape = functools.cache(models.empty_model)


def sizes(spec: RunSpec, task: tasks.Task) -> Sizes:
    """Of one run: counted once for tasks that share a model, and for all learning rates.

    Raises the packages' own errors for what cannot be attached.
    """
    own_task = json.dumps(spec.task) if task.head.kind == "own" else ""
    adapter = spec.adapter.model_dump_json(exclude={"learning_rate"})
    steps = getattr(adapter_of(spec), "total_steps", None)  # where it matters
    return _sizes(own_task, spec.model, task.head, json.dumps(spec.targets), adapter, steps or 1)


@functools.cache
def _sizes(own_task: str, model: Model, head: tasks.Head, targets: str, adapter: str, steps: int) -> Sizes:
    """`own_task`: the options of a task that brings its model; that, targets and adapter as JSON."""

    # Whole before `_Shapes` is in force, under which pickled weights cannot be read.
    whole = tasks.create(**json.loads(own_task)).build_model(0).to("meta") if own_task else shape(model, head)
    heads = models.heads(whole, None if own_task else model)

    def attached() -> tuple[nn.Module, Adapter]:
        made = make_adapter(AdapterSpec.model_validate_json(adapter), learning_rate=1e-3, steps=steps)
        return made.attach(copy.deepcopy(whole), json.loads(targets), heads=heads), made

    try:
        with _Shapes():
            built, made = attached()
    except AdapterError:  # a few of PEFT's methods compute with their first values
        built, made = attached()
    counts = made.parameter_counts()
    tables = (module for module in built.modules() if isinstance(module, nn.Embedding))
    looked_up = {parameter for table in tables for parameter in table.parameters()}
    passed = {
        parameter: round(parameter.numel() * _share(name, parameter, built))
        for name, parameter in built.named_parameters()
        if parameter not in looked_up and not any(part in name for part in _NOT_PASSED)
    }
    adapted = [weight_of(made.plain(name)).numel() for name in made.layers]
    return Sizes(
        layers=made.matched,
        **counts,
        passed=sum(passed.values()),
        passed_trained=sum(count for parameter, count in passed.items() if parameter.requires_grad),
        adapted=sum(adapted),
        largest=max(adapted, default=0),
        state=sum(tensor.nbytes for tensor in made.moved().values()),
        probed=sum(weight_of(made.plain(name)).numel() for name in probed(made)),
        kind=(
            counts["trainable"],
            *(getattr(type(made), name) for name in ("before_step", "after_step", "penalty")),
            *(_kind(layer) for layer in made.layers.values()),
        ),
    )


def _share(name: str, parameter: nn.Parameter, model: nn.Module) -> float:
    """A token passes through a few of a mixture's experts, which stand in one parameter; through all of them
    where the model computes all for each (Llama 4)."""
    if ".experts." not in name or not isinstance(model, PreTrainedModel):
        return 1.0
    if not model._can_set_experts_implementation():
        return 1.0
    experts = len(parameter)
    return min(1.0, getattr(model.config.get_text_config(), "num_experts_per_tok", experts) / experts)


def _kind(layer: nn.Module) -> tuple[Any, ...]:
    parts = tuple(type(module) for module in layer.modules())
    return *parts, *((parameter.shape, parameter.requires_grad) for parameter in layer.parameters())
