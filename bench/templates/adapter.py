"""my-method: LoRA with a learned gain on every layer. An example: name your paper and its equation here.

    y = x Wᵀ + bias + g s (x B) Aᵀ        A (out, r), B (in, r) and the number g are trained, s = alpha / r

    rankbench check my-method.py                      does it keep the rules that every method keeps?
    rankbench new suite trial --plugin my-method.py   a suite that sets it beside others
    rankbench run trial.yaml                          then `rankbench report trial.yaml`

Every edit of this file is another method: its runs are done again, those of others are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from rankbench.adapters.errors import check_positive
from rankbench.adapters.layers import Linear, weight_of
from rankbench.adapters.low_rank import LowRankAdapter, LowRankLayer


class MyLinear(LowRankLayer):
    """A frozen layer and its increment, scale · A Bᵀ. What is trained is a parameter; what is drawn and stays
    as it is, a buffer."""

    def __init__(self, base: Linear, rank: int, scale: float, generator: Generator | None) -> None:
        super().__init__(base)
        weight = weight_of(base)  # (out, in), whatever kind of layer it is
        rows, columns = weight.shape
        dtype = torch.promote_types(weight.dtype, torch.float32)
        bound = 1 / math.sqrt(columns)
        # Every random number comes from the generator, and the increment starts at zero.
        start = torch.empty(columns, rank, dtype=dtype).uniform_(-bound, bound, generator=generator)
        self.B = nn.Parameter(start.to(weight.device))
        self.A = nn.Parameter(torch.zeros(rows, rank, dtype=dtype, device=weight.device))
        self.gain = nn.Parameter(torch.ones((), dtype=dtype, device=weight.device))
        self.scale = scale

    @override
    def factors(self) -> tuple[Tensor, Tensor]:
        return self.gain * self.A, self.B


@dataclass(kw_only=True)
class MyMethod(LowRankAdapter):
    """Its fields are the hyperparameters, which a suite may set; `rank` comes from LowRankAdapter."""

    name: ClassVar[str] = "my-method"
    alpha: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(alpha=self.alpha)

    @override
    def wrap(self, linear: Linear, generator: Generator | None) -> MyLinear:
        return MyLinear(linear, self.rank, self.alpha / self.rank, generator)


# What a suite may name: `plugins: [my-method.py]`, then `my-method: {rank: 4}` among its adapters.
ADAPTERS = {"my-method": MyMethod}
