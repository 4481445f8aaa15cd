"""The optimum that ScaLoRA's scales approximate (Zhang et al., arXiv 2510.23818, Theorem 3.2).

Of all factors of rank r, these bring one LoRA step closest to the full fine-tuning step, the bound
‖G/L − η s² (G B̃B̃ᵀ + ÃÃᵀG)‖² being least, with G = ∂loss/∂W = U Σ Vᵀ:

    Ã = U₂ / (s √(Lη))        U₂: left singular directions r + 1 … 2r of G
    B̃ = V₁ / (s √(Lη))        V₁: right singular directions 1 … r

so that a step of plain gradient descent moves W by −G₂ᵣ/L, G₂ᵣ being G's best approximation of rank
2r. Before each step they replace A and B, and W takes the difference as in `adapters.scalora.folding`. Too
costly to train with, as G is formed and decomposed at every step: a reference curve.

Choices that the theorem leaves open:
- Singular vectors have no sign of their own, and where G has a rank below 2r the last ones no direction
  either: a decomposition returns what its roundings make of them. The largest entry is made positive, and
  columns of singular values within rounding of zero are zero, which lowers the bound as far.
- Any r of the 2r directions may go to B. The strongest do, as in LoRA-GA; on linear regression the final
  loss was 0.003 so and with those nearest to the old factor, 0.008 and more by turns or the other way.
- The optimizer's moments are those of other directions. A's gradient is s G B, so with R = B⁺B̃, what
  B̃ is in terms of B, exp_avg A ← exp_avg A · R and exp_avg_sq A ← exp_avg_sq A · (R ∘ R), and B's
  by A's change: for R = diag(β) this is ScaLoRA's own rule. What lies outside the old directions starts
  at zero. On linear regression (300 steps, the best of rates 1e-3 … 3e-2 and L 30 … 1000) the final
  loss was 0.003 so, 0.006 with moments reset at each step, 1.7 with second moments left as they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.errors import AdapterError, check_positive
from rankbench.adapters.layers import Linear, check_directions
from rankbench.adapters.lora import LowRankLinear
from rankbench.adapters.scalora.folding import moments
from rankbench.adapters.scalora.layers import FoldedLinear, FoldingLora


class FullGradientLinear(FoldedLinear):
    """A `FoldedLinear` that keeps `gradient`, ∂loss/∂W (out, in), summed over backward passes."""

    gradient: Tensor | None = None

    @override
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            frozen = self.frozen()
            weight = (frozen.t() if isinstance(self.base, Conv1D) else frozen) + self.delta()
        if weight.requires_grad:
            weight.register_hook(self._collect)
        return functional.linear(x, weight.to(self.base.weight.dtype), self.base.bias)

    def _collect(self, gradient: Tensor) -> None:
        self.gradient = gradient if self.gradient is None else self.gradient + gradient


@dataclass(kw_only=True)
class ScaLoraSvd(FoldingLora):
    """The unrestricted optimum at every step. `smoothness` is the paper's L, `learning_rate` its η:
    the run's peak learning rate. For one process."""

    name: ClassVar[str] = "scalora-svd"
    version: ClassVar[int] = 2
    one_process: ClassVar[str] = "sees the gradients of its own process only"
    smoothness: float = 100.0
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(smoothness=self.smoothness, learning_rate=self.learning_rate)
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            raise AdapterError(f"{self.name} {self.one_process}; run it in one")

    @override
    def check(self, linear: Linear) -> None:
        super().check(linear)
        check_directions(self.rank, linear)

    @override
    def wrap(self, linear: Linear, generator: Generator | None) -> FullGradientLinear:
        return FullGradientLinear(linear, self.rank, self.scale, generator)

    @override
    @torch.no_grad()
    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Put the optimum in the place of every layer's factors, moments and gradients with them."""
        for layer in self.layers.values():
            assert isinstance(layer, FullGradientLinear)
            layer.check_held()
            gradient, layer.gradient = layer.gradient, None
            if gradient is not None:
                # A diverged step is the loop's to report; it has no singular vectors.
                self._replace(layer, gradient.nan_to_num(0.0, 0.0, 0.0), optimizer)

    def _replace(self, layer: FullGradientLinear, gradient: Tensor, optimizer: Optimizer) -> None:
        assert layer.A.grad is not None
        assert layer.B.grad is not None
        p, q = _gradients(gradient, layer)
        overlap = (layer.A.grad * p).sum() + (layer.B.grad * q).sum()
        clipped = torch.nan_to_num(overlap / (p.square().sum() + q.square().sum()))
        a, b = self.optimum(gradient)
        layer.take(self.scale * (layer.A @ layer.B.t() - a @ b.t()))
        _transport(optimizer, layer.A, torch.linalg.pinv(layer.B) @ b)
        _transport(optimizer, layer.B, torch.linalg.pinv(layer.A) @ a)
        layer.A.copy_(a)
        layer.B.copy_(b)
        p, q = _gradients(gradient, layer)
        layer.A.grad.copy_(clipped * p)
        layer.B.grad.copy_(clipped * q)

    def optimum(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Ã (out, r) and B̃ (in, r) for G (out, in)."""
        u, values, vt = torch.linalg.svd(gradient, full_matrices=False)
        rounding = max(gradient.shape) * torch.finfo(gradient.dtype).eps * values[0]
        unit = self.scale * math.sqrt(self.smoothness * self.learning_rate)
        length = (values > rounding).to(u.dtype) / unit
        left, right = slice(self.rank, 2 * self.rank), slice(0, self.rank)
        return length[left] * _signed(u[:, left]), length[right] * _signed(vt[right].t())


def _gradients(gradient: Tensor, layer: LowRankLinear) -> tuple[Tensor, Tensor]:
    """∂loss/∂A (out, r) and ∂loss/∂B (in, r), from G."""
    return layer.scale * (gradient @ layer.B), layer.scale * (gradient.t() @ layer.A)


def _signed(vectors: Tensor) -> Tensor:
    """Each column with its largest entry positive."""
    return vectors * vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()


def _transport(optimizer: Optimizer, factor: nn.Parameter, change: Tensor) -> None:
    """Moments along old columns to moments along new ones: `change` (r, r) of the other factor."""
    if state := moments(optimizer, factor):
        state["exp_avg"].copy_(state["exp_avg"] @ change)
        state["exp_avg_sq"].copy_(state["exp_avg_sq"] @ change.square())
