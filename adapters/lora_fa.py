"""LoRA-FA (Zhang et al. 2023, arXiv 2308.03303): LoRA with one factor left as it was drawn.

    y = x Wᵀ + bias + s (x B) Aᵀ        A (out, r) is trained, B (in, r) is not; s = alpha / r

The paper's (and PEFT's) names are crossed: their frozen A is our Bᵀ. The backward pass needs x B, not x.
With `correction` A's gradient is multiplied by (BᵀB)⁻¹ / s² before the optimizer's step, the closed form of
the paper's second version: of all that A can do, such a step of plain gradient descent moves W closest to its
own gradient. PEFT's optimizer always does so; the first version of 2023 does not.

Deviation: B is uniform in ±1/√in as our LoRA's, not normal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator
from torch.optim import Optimizer
from typing_extensions import override

from rankbench.adapters.base import Range
from rankbench.adapters.errors import check_flag
from rankbench.adapters.layers import Linear
from rankbench.adapters.lora import Lora, LowRankLinear


@dataclass(kw_only=True)
class LoraFa(Lora):
    """LoRA-FA: increment (alpha / rank) · A Bᵀ, of which A is trained."""

    name: ClassVar[str] = "lora-fa"
    # Up from LoRA's: one factor moves.
    space: ClassVar[Mapping[str, Range]] = {"learning_rate": (4e-4, 1e-2, "log")}
    correction: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag(correction=self.correction)

    @override
    def wrap(self, linear: Linear, generator: Generator | None) -> LowRankLinear:
        layer = super().wrap(linear, generator)
        drawn = layer.B.detach()
        del layer.B
        layer.register_buffer("B", drawn)  # a part of the state, but nothing to train
        return layer

    @override
    @torch.no_grad()
    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Where the gradient is corrected: A.grad ← A.grad (BᵀB)⁻¹ / s²."""
        for layer in self.layers.values() if self.correction else ():
            assert isinstance(layer, LowRankLinear)
            if layer.A.grad is not None:
                gram = self.scale**2 * (layer.B.t() @ layer.B)
                layer.A.grad.copy_(torch.linalg.solve_ex(gram, layer.A.grad.t()).result.t())
