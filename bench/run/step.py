"""One optimizer step, which is what is timed; its optimizer, and its accelerator."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.optim import AdamW
from transformers.trainer_pt_utils import get_parameter_names

from rankbench.adapters import Adapter, AdapterError
from rankbench.adapters.base import ParameterGroup
from rankbench.adapters.shards import whole
from rankbench.bench.cpu.allocator import keep_freed_memory
from rankbench.bench.run.sharding import average_gradients, is_sharded
from rankbench.bench.suite import Training
from rankbench.tasks import Batch

BIASES_AND_NORMS = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
"""Lower-case names of what weight decay usually leaves out: the Trainer's."""


def make_accelerator(precision: str = "no") -> Accelerator:
    """CUDA or the CPU, precision and processes. The process-wide state is reset: runs may differ
    in precision. Memory that a step frees is kept for the next."""
    keep_freed_memory()
    AcceleratorState._reset_state()
    # Buffers never differ: each process draws and folds the same ones.
    same = DistributedDataParallelKwargs(broadcast_buffers=False)
    cpu = not torch.cuda.is_available()
    return Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[same])


def make_optimizer(adapter: Adapter, settings: Training) -> AdamW:
    """AdamW over what is trained, in one fused kernel for each group: the adapter's, which may have rates of
    their own, each parted by what decays, as `settings.decay` says, by the rule of the transformers Trainer.

    Raises AdapterError unless each trained parameter is in one of the adapter's groups.
    """
    names = {p: name for name, p in adapter.model.named_parameters() if p.requires_grad}
    stated = adapter.parameter_groups()
    _check_groups(adapter, names, stated)
    decayed = set(names.values())
    if settings.weight_decay and settings.decay == "matrices":
        decayed &= set(get_parameter_names(adapter.model, [nn.LayerNorm], BIASES_AND_NORMS))
    groups: list[dict[str, Any]] = []
    for group in stated:
        rate = {"lr": settings.learning_rate * group.rate}
        groups += [
            {"params": [p for p in group.parameters if names[p] in decayed], **rate},
            {"params": [p for p in group.parameters if names[p] not in decayed], "weight_decay": 0.0, **rate},
        ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _check_groups(
    adapter: Adapter, names: Mapping[nn.Parameter, str], groups: Sequence[ParameterGroup]
) -> None:
    """Raise AdapterError unless each of the named parameters, and nothing else, is in one group."""
    times = Counter(parameter for group in groups for parameter in group.parameters)
    if times.keys() - names.keys():
        raise AdapterError(f"{adapter.name} has something in its parameter groups that is not trained")
    for parameter, name in names.items():
        if times[parameter] != 1:
            raise AdapterError(
                f"{adapter.name} has {name} in {times[parameter]} parameter groups, not in one"
            )


def prepare(accelerator: Accelerator, model: nn.Module, optimizer: AdamW) -> tuple[nn.Module, Any]:
    """Model and optimizer as they train: in the accelerator's precision, and bound to other processes."""
    if is_sharded(model):  # it is bound already
        return accelerator.prepare_model(model, evaluation_mode=True), accelerator.prepare_optimizer(
            optimizer
        )
    prepared: tuple[nn.Module, Any] = accelerator.prepare(model, optimizer)
    return prepared


def optimizer_step(
    accelerator: Accelerator,
    model: nn.Module,
    adapter: Adapter,
    optimizer: Any,
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    micro_batches: Sequence[Batch],
    *,
    step: int,
    weight: float,
    clip: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step: the part that is timed. `weight` is the number of loss terms over all
    micro-batches and processes. Returns task loss, penalty and gradient norm, on the device."""
    total = torch.zeros((), device=accelerator.device)
    penalty: Tensor | float = 0.0
    for position, batch in enumerate(micro_batches):
        is_last = position == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(model):
            part = loss(model, batch.inputs) / weight
            objective = part * accelerator.num_processes
            if is_last:
                penalty = adapter.penalty()
                objective = objective + penalty
            accelerator.backward(objective)
        total = total + part.detach()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if is_sharded(model):
        average_gradients(parameters)
    norm = accelerator.clip_grad_norm_(parameters, math.inf if clip is None else clip)
    adapter.before_step(optimizer, step)
    optimizer.step()
    adapter.after_step(optimizer, step)
    optimizer.zero_grad()
    return total, torch.as_tensor(penalty).detach(), whole(torch.as_tensor(norm))


def timed(device: torch.device, work: Callable[[], Any]) -> float:
    """Seconds that the work takes, the device's queue drained before and after."""
    started = now(device)
    work()
    return now(device) - started


def now(device: torch.device) -> float:
    """The clock in seconds, once the device has done what it was given: it must not run ahead of that."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
