"""Linear layers: what can be adapted and at which rank, and what stands in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.errors import AdapterError
from rankbench.adapters.quantised import in_four_bits, unpacked

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

Linear = nn.Linear | Conv1D
"""What can be adapted. `Conv1D` (GPT-2) stores its weight as (in, out)."""


def weight_of(linear: nn.Module) -> Tensor:
    """The weight as (out, in): a view, or where it is in four bits a copy, whole."""
    if in_four_bits(linear):
        return unpacked(linear.weight)
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return weight.t() if isinstance(linear, Conv1D) else weight


def shape_of(linear: Linear) -> tuple[int, int]:
    """(out, in), however the weight is held."""
    if isinstance(linear, Conv1D):
        inner, out = linear.weight.shape
        return out, inner
    return linear.out_features, linear.in_features


def precision_of(linear: Linear) -> torch.dtype:
    """Of products with the weight where autocast names no other: its own, or what it was packed from."""
    dtype: torch.dtype = linear.weight.quant_state.dtype if in_four_bits(linear) else linear.weight.dtype
    return dtype


class AdapterLinear(nn.Module):
    """A frozen linear layer and its increment: `base` and `delta()` -> (out, in)."""

    base: Linear

    def __init__(self, base: Linear) -> None:
        super().__init__()
        self.base = base

    @property
    def weight(self) -> Tensor:
        """The frozen layer's, without the increment: T5 asks for its dtype before it calls the layer."""
        weight = self.base.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The frozen layer's."""
        return self.base.bias

    def delta(self) -> Tensor:
        """The increment that `merge` adds to the frozen weight, (out, in)."""
        raise NotImplementedError

    def frozen(self) -> Tensor:
        """What that is, in the layer's own layout and as exactly as it is known; it may be in parts."""
        return unpacked(self.base.weight) if in_four_bits(self.base) else self.base.weight.detach()

    def cut(self, mesh: DeviceMesh) -> None:
        """Keep only a part, cut along the first dimension, of what is as large as the frozen weight."""


def check_rank(rank: int, linear: Linear) -> None:
    """Raise AdapterError unless 1 <= rank <= min(out, in)."""
    smaller = min(shape_of(linear))
    if not 1 <= rank <= smaller:
        raise AdapterError(f"rank {rank} is not between 1 and {smaller}, the layer's smaller side")


def check_directions(rank: int, linear: Linear) -> None:
    """Raise AdapterError unless the layer has 2 · rank singular directions, half of them for each factor."""
    smaller = min(shape_of(linear))
    if 2 * rank > smaller:
        raise AdapterError(
            f"rank {rank} needs {2 * rank} singular directions, the layer has {smaller}; "
            f"choose a rank of at most {smaller // 2}"
        )


FOLDS_ARE_LOST = "it folds into the frozen weights; take bfloat16, or leave `weights` out"
"""Why what does so cannot have weights in four bits."""


def check_foldable(linear: Linear) -> None:
    """Raise AdapterError for a weight that would round small folds away, `adapters.pairs` or not."""
    if linear.weight.dtype not in (torch.bfloat16, torch.float32, torch.float64):
        raise AdapterError(
            f"the weight is {linear.weight.dtype} and would round small folds away; "
            "load the model in bfloat16 or float32 instead"
        )
