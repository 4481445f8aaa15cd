"""Weights that several processes hold in parts, as PyTorch's FSDP2 leaves them: a `DTensor` cut along its
first dimension. Any other tensor is whole, and these functions leave it so.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.layers import Linear, weight_of

if TYPE_CHECKING:  # takes half a second, and nothing but weights in parts needs it
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

M = TypeVar("M", bound=nn.Module)


def in_parts(tensor: Tensor) -> TypeGuard[DTensor]:
    """Whether this process holds a part of it only."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Of one in parts it is a new one, and all processes have to ask for it together."""
    return tensor.full_tensor() if in_parts(tensor) else tensor


def own(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: the memory itself, without gradients."""
    tensor = tensor.detach()
    return tensor.to_local() if in_parts(tensor) else tensor


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor the part that this process holds of `like`, which has its shape or as many rows."""
    if not in_parts(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    cut = distribute_tensor(tensor.detach(), like.device_mesh, like.placements, src_data_rank=None)
    return cut.to_local()


def cut(tensor: Tensor, mesh: DeviceMesh) -> DTensor:
    """A whole tensor in parts, on the mesh's device, as FSDP2 cuts a weight; the rest is let go of."""
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    parts = distribute_tensor(tensor, mesh, [Shard(0)], src_data_rank=None)
    mine = parts.to_local().clone()
    return DTensor.from_local(mine, mesh, parts.placements, shape=tensor.shape, stride=tensor.stride())


def copied(module: M) -> M:
    """A deep copy of a module, its weights whole."""
    parts = [parameter for parameter in module.parameters() if in_parts(parameter)]
    return copy.deepcopy(module, {id(p): nn.Parameter(whole(p.detach()), p.requires_grad) for p in parts})


def add_product(layer: Linear, left: Tensor, right: Tensor, scale: float) -> None:
    """Add scale · left rightᵀ, (out, in), to a layer's weight in place: each process to the rows it holds."""
    weight: Tensor = layer.weight
    if not in_parts(weight):
        weight_of(layer).addmm_(left, right.t(), alpha=scale)
        return
    rows, columns = (right, left) if isinstance(layer, Conv1D) else (left, right)
    own(weight).addmm_(part(rows, weight), columns.t(), alpha=scale)
