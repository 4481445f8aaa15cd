"""Checks of hyperparameters and layers, each with one line for the user's mistake."""

from __future__ import annotations

import math

import torch

from rankbench.adapters.errors import AdapterError
from rankbench.adapters.layers import Linear, weight_of


def check_rank(rank: int, linear: Linear) -> None:
    """Raise AdapterError unless 1 <= rank <= min(out, in)."""
    smaller = min(weight_of(linear).shape)
    if not 1 <= rank <= smaller:
        raise AdapterError(f"rank {rank} is not between 1 and {smaller}, the layer's smaller side")


def check_full_precision(linear: Linear) -> None:
    """Raise AdapterError for a half-precision weight, which would round small folds into it away."""
    if linear.weight.dtype not in (torch.float32, torch.float64):
        raise AdapterError(
            f"the weight is {linear.weight.dtype} and would round small folds away; "
            "load the model in float32 and train with mixed precision instead"
        )


def check_positive(**values: float) -> None:
    """Raise AdapterError naming the first hyperparameter that is not a positive number."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise AdapterError(f"{key} must be a positive number, not {value!r}")


def check_count(**values: int) -> None:
    """Raise AdapterError naming the first hyperparameter that is not a positive whole number."""
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise AdapterError(f"{key} must be a positive whole number, not {value!r}")
