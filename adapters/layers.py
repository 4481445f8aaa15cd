"""Frozen linear layers with an increment: what stands in the place of a target."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Linear = nn.Linear | Conv1D
"""What can be adapted. `Conv1D` (GPT-2) stores its weight as (in, out)."""


def weight_of(linear: nn.Module) -> Tensor:
    """The weight as (out, in), a view."""
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return weight.t() if isinstance(linear, Conv1D) else weight


class AdapterLinear(nn.Module):
    """A frozen linear layer and its increment: `base` and `delta()` -> (out, in)."""

    base: Linear

    def __init__(self, base: Linear) -> None:
        super().__init__()
        self.base = base

    def delta(self) -> Tensor:
        """The increment that `merge` adds to the frozen weight, (out, in)."""
        raise NotImplementedError
