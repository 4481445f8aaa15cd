"""LoRA (Hu et al. 2021, arXiv 2106.09685) and rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).

    y = x Wᵀ + bias + s (x B) Aᵀ        A (out, r), B (in, r)

s = alpha / r for LoRA (its section 4.1), alpha / √r for rsLoRA (its equation 4): nothing else
differs. A starts at zero and B uniform in ±1/√in, so the increment starts at zero. The papers'
(and PEFT's) names are crossed: their B is our A, their A our Bᵀ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from rankbench.adapters.base import Range
from rankbench.adapters.errors import check_positive
from rankbench.adapters.layers import Linear, precision_of, shape_of
from rankbench.adapters.low_rank import LowRankAdapter, LowRankLayer


class LowRankLinear(LowRankLayer):
    """A frozen layer with `A` (out, r), `B` (in, r) and `scale`; `delta()` = scale · A Bᵀ."""

    def __init__(self, base: Linear, rank: int, scale: float, generator: Generator | None) -> None:
        super().__init__(base)
        device, (out_features, in_features) = base.weight.device, shape_of(base)
        dtype = torch.promote_types(precision_of(base), torch.float32)
        bound = 1 / math.sqrt(in_features)
        start = torch.empty(in_features, rank, dtype=dtype).uniform_(-bound, bound, generator=generator)
        # Each column lies in one piece of memory: the layout in which the products read and write them.
        self.A = nn.Parameter(torch.zeros(rank, out_features, dtype=dtype, device=device).t())
        self.B = nn.Parameter(start.t().contiguous().t().to(device))
        self.scale = scale

    @override
    def factors(self) -> tuple[Tensor, Tensor]:
        return self.A, self.B


@dataclass(kw_only=True)
class Lora(LowRankAdapter):
    """LoRA: increment (alpha / rank) · A Bᵀ."""

    name: ClassVar[str] = "lora"
    # 5e-4 to 2e-3 was best in sweeps of MiniLM and SmolLM2; the paper has 2e-4 to 5e-4.
    space: ClassVar[Mapping[str, Range]] = {"learning_rate": (2e-4, 5e-3, "log")}
    alpha: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(alpha=self.alpha)

    @property
    def scale(self) -> float:
        """The multiplier s of the increment."""
        return self.alpha / self.rank

    @override
    def wrap(self, linear: Linear, generator: Generator | None) -> LowRankLinear:
        return LowRankLinear(linear, self.rank, self.scale, generator)


@dataclass(kw_only=True)
class RsLora(Lora):
    """rsLoRA: increment (alpha / √rank) · A Bᵀ."""

    name: ClassVar[str] = "rslora"
    # Down from LoRA's, since steps grow with the rank: 4e-4 was best at rank 128, 2e-3 at rank 4.
    space: ClassVar[Mapping[str, Range]] = {"learning_rate": (1e-4, 4e-3, "log")}

    @property
    @override
    def scale(self) -> float:
        return self.alpha / math.sqrt(self.rank)
