"""A model that several processes hold in parts (PyTorch's FSDP2), for models that fit on no single card.

The frozen weights are cut: each process keeps a part of every weight and has a block of the model whole only
while it computes with it. What an adapter trains beside them is small, and stays whole in each process; its
gradients are averaged after the backward pass. Where everything is trained, everything is cut, with its
gradients and moments.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.optim import Optimizer

from rankbench.adapters.layers import AdapterLinear
from rankbench.adapters.shards import in_parts, own, part
from rankbench.bench.cpu.allocator import give_back_freed_memory

Result = TypeVar("Result")


def shard(model: nn.Module, device: torch.device) -> nn.Module:
    """Cut a model that lies in main memory, in place: the parts go to the device, a block at a time."""
    frozen = any(not parameter.requires_grad for parameter in model.parameters())
    # Heads are in float32 whatever the others are held in, and what is gathered together is of one kind.
    alike = len({parameter.dtype for parameter in model.parameters()}) == 1
    kept = {
        parameter
        for parameter in model.parameters()
        if (parameter.requires_grad and frozen) or (parameter.dtype == torch.float32 and not alike)
    }
    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    for module in model.modules():
        if isinstance(module, AdapterLinear):
            module.cut(mesh)
    for module in (*_blocks(model), model):
        # Outside of its forward pass nothing is whole, the root's weights neither.
        fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=kept)
    for parameter in kept:
        parameter.data = parameter.data.to(device)
    return model


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the model's outermost lists: its layers, whatever they are called."""
    for child in module.children():
        if isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _blocks(child)


def is_sharded(model: nn.Module) -> bool:
    """Whether processes hold parts of it."""
    return isinstance(model, FSDPModule)


def in_turn(work: Callable[[], Result]) -> Result:
    """What `work` returns, done by one process after the other: main memory has room for one whole model."""
    found: list[Result] = []
    for turn in range(distributed.get_world_size()):
        if turn == distributed.get_rank():
            found.append(work())
            gc.collect()  # what was whole
            give_back_freed_memory()
        distributed.barrier()
    return found[0]


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Over the processes, of what each of them holds whole; what is in parts has been averaged in parts."""
    gradients = [p.grad for p in parameters if p.grad is not None and not in_parts(p.grad)]
    if not gradients:
        return
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= distributed.get_world_size()
    parts = together.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [p.view(g.shape) for p, g in zip(parts, gradients, strict=True)])


def cut_moments(state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's saved state in which the moments of weights in parts are in parts too."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {i: {k: _cut(v, parameters[i]) for k, v in held.items()} for i, held in state["state"].items()}
    return state | {"state": moments}


def _cut(saved: Tensor, parameter: nn.Parameter) -> Tensor:
    if not in_parts(parameter) or saved.shape != parameter.shape:
        return saved
    moment = torch.empty_like(parameter)
    own(moment).copy_(part(saved, moment))
    return moment
