"""LoRA (Hu et al. 2021, arXiv 2106.09685) and rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).

    y = x Wᵀ + bias + s (x B) Aᵀ        A (out, r), B (in, r)

s = alpha / r for LoRA (its section 4.1), alpha / √r for rsLoRA (its equation 4): nothing else
differs. A starts at zero and B uniform in ±1/√in, so the increment starts at zero. The papers'
(and PEFT's) names are crossed: their B is our A, their A our Bᵀ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from adapters.base import Adapter, AdapterLinear, check_count, check_positive, check_rank, weight_of


class _LowRankProduct(torch.autograd.Function):
    """y = x Wᵀ + bias + s (x B) Aᵀ with W and bias frozen.

    The thin products are kept transposed, (r, tokens): then each large activation is read along
    its rows, which is several times faster than the other layout.

    The increment is added where that moves less memory: to the weight, for one product with
    W + s A Bᵀ, if the output has more rows than the weight; to the output otherwise. The sum is
    formed again for the backward pass instead of being held for it.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        projected = b.t() @ rows.t()
        if len(rows) > weight.shape[1]:
            y = functional.linear(rows, torch.addmm(weight, a, b.t(), alpha=scale), bias)
        else:
            y = functional.linear(rows, weight, bias).addmm_(projected.t(), a.t(), alpha=scale)
        ctx.save_for_backward(rows, weight, a, b, projected)
        ctx.scale = scale
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, projected = ctx.saved_tensors
        grad_rows = grad.reshape(-1, grad.shape[-1])
        grad_a = (projected @ grad_rows).t().mul_(ctx.scale)
        back = (a.t() @ grad_rows.t()).mul_(ctx.scale)
        grad_b = (back @ rows).t()
        grad_x = None
        if ctx.needs_input_grad[0]:
            if len(rows) > weight.shape[0]:
                grad_x = grad_rows @ torch.addmm(weight, a, b.t(), alpha=ctx.scale)
            else:
                grad_x = (grad_rows @ weight).addmm_(back.t(), b.t())
            grad_x = grad_x.view(*grad.shape[:-1], grad_x.shape[-1])
        return grad_x, None, None, grad_a, grad_b, None


def low_rank_linear(x: Tensor, base: nn.Linear | Conv1D, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """x (…, in) through `base` and scale · a bᵀ beside it, a (out, r), b (in, r) -> (…, out).

    Computes in the frozen weight's dtype, or in autocast's where that is on.
    """
    weight, bias = weight_of(base), base.bias
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    y: Tensor = _LowRankProduct.apply(
        x.to(dtype),
        weight.to(dtype),
        None if bias is None else bias.to(dtype),
        a.to(dtype),
        b.to(dtype),
        scale,
    )
    return y


class LowRankLinear(AdapterLinear):
    """A frozen layer with `A` (out, r), `B` (in, r) and `scale`; `delta()` = scale · A Bᵀ."""

    def __init__(
        self, base: nn.Linear | Conv1D, rank: int, scale: float, generator: torch.Generator | None
    ) -> None:
        super().__init__(base)
        weight = weight_of(base)
        out_features, in_features = weight.shape
        dtype = torch.promote_types(weight.dtype, torch.float32)
        bound = 1 / math.sqrt(in_features)
        start = torch.empty(in_features, rank, dtype=dtype).uniform_(-bound, bound, generator=generator)
        self.A = nn.Parameter(torch.zeros(out_features, rank, dtype=dtype, device=weight.device))
        self.B = nn.Parameter(start.to(weight.device))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        return low_rank_linear(x, self.base, self.A, self.B, self.scale)

    def delta(self) -> Tensor:
        """scale · A Bᵀ, (out, in)."""
        return self.scale * (self.A @ self.B.t())


@dataclass(kw_only=True)
class Lora(Adapter):
    """LoRA: increment (alpha / rank) · A Bᵀ."""

    name: ClassVar[str] = "lora"
    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        check_count(rank=self.rank)
        check_positive(alpha=self.alpha)

    @property
    def scale(self) -> float:
        """The multiplier s of the increment."""
        return self.alpha / self.rank

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """Raise AdapterError if the rank does not fit the layer."""
        check_rank(self.rank, linear)

    def wrap(self, linear: nn.Linear | Conv1D, generator: torch.Generator | None) -> LowRankLinear:
        """A `LowRankLinear` that starts equal to the layer."""
        return LowRankLinear(linear, self.rank, self.scale, generator)


@dataclass(kw_only=True)
class RsLora(Lora):
    """rsLoRA: increment (alpha / √rank) · A Bᵀ."""

    name: ClassVar[str] = "rslora"

    @property
    def scale(self) -> float:
        """The multiplier s of the increment."""
        return self.alpha / math.sqrt(self.rank)
