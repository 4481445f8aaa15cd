"""What is not finite never gets better: the run ends, as failed."""

from __future__ import annotations

import math

import torch
from torch import nn

from rankbench.adapters.shards import own
from rankbench.bench.records import Curve
from rankbench.bench.run.failures import RunFailed


def refuse_broken_weights(model: nn.Module, step: int) -> None:
    """The loss is of the weights before the step: the last step's damage shows only here."""
    for name, parameter in model.named_parameters():
        held = own(parameter)
        # The sum is one pass; it can also overflow, which the second look tells apart.
        if not torch.isfinite(held.sum()) and not torch.isfinite(held).all():
            raise RunFailed(f"{name} is no longer finite", step)


def refuse_divergence(curve: Curve) -> None:
    """A loss or gradient that is not finite never gets better: the run ends here, as failed."""
    for key in ("loss", "penalty", "gradient_norm"):
        value = getattr(curve, key)[-1]
        if not math.isfinite(value):
            raise RunFailed(f"the {key.replace('_', ' ')} is {value}", curve.step[-1])
