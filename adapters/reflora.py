"""RefLoRA (Zhang, Li, Giannakis, NeurIPS 2025, arXiv 2505.18877): each LoRA step is taken from the
factorization of the increment that bounds the loss best.

For every invertible P, A P⁻ᵀ and B P are factors of the same A Bᵀ, but a step of gradient descent on them
moves W by −η s² (G B S Bᵀ + A S⁻¹ Aᵀ G), G = ∂loss/∂W, which depends on S = P Pᵀ. The bound on that,
‖B S Bᵀ‖² + ‖A S⁻¹ Aᵀ‖² in Frobenius norms, is least at the geometric mean of AᵀA and (BᵀB)⁻¹,

    S = H⁻¹ (H AᵀA H)^½ H⁻¹,  H = (BᵀB)^½,        the only positive definite S with S BᵀB S = AᵀA

A step from those factors is, in terms of A and B, a step with other gradients, which take their places after
clipping: A.grad ← A.grad S, B.grad ← B.grad S⁻¹. The moments are those of the new gradients. Formula and
order are those of the authors' release (github.com/zhangyilang/RefLoRA); that the bound is least there, a
test shows.

- A starts at zero, which has no S, and for a while S⁻¹ is very large. The release's scripts leave plain
  LoRA's gradients for the first 100 steps; here `warmup` is a number of steps or, below 1, a share of the
  run's. A layer is also left alone while a factor is singular up to rounding.
- The (r, r) matrices are decomposed in float64; the release has the factors' own precision.
- RefLoRA-S, one number in the place of S, is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from rankbench.adapters.errors import AdapterError, check_count, check_steps
from rankbench.adapters.lora import Lora
from rankbench.adapters.scalora.folding import gradient, groups_of

SINGULAR = 1e-14
"""The least eigenvalue of a Gram matrix in float64, against its largest, that is no rounding error."""


@dataclass(kw_only=True)
class RefLora(Lora):
    """RefLoRA, from the step on at which `warmup` is over."""

    name: ClassVar[str] = "reflora"
    warmup: float = 0.1
    total_steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(total_steps=self.total_steps)
        check_steps(warmup=self.warmup)
        if self.first_step >= self.total_steps:
            raise AdapterError(f"warmup leaves none of the {self.total_steps} steps to refactor; shorten it")

    @property
    def first_step(self) -> int:
        """The first that is taken from other factors, counted from 0."""
        return round(self.warmup * self.total_steps) if self.warmup < 1 else int(self.warmup)

    @override
    @torch.no_grad()
    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Put the gradients of the best factorization in the places of each layer's own."""
        for group in groups_of(self.layers.values()) if step >= self.first_step else ():
            a, b = _grams([layer.A for layer in group]), _grams([layer.B for layer in group])
            for layer, mean, inverse in zip(group, *geometric_mean(a, b), strict=True):
                gradient(layer.A).copy_(gradient(layer.A) @ mean.to(layer.A.dtype))
                gradient(layer.B).copy_(gradient(layer.B) @ inverse.to(layer.B.dtype))


def _grams(factors: Sequence[Tensor]) -> Tensor:
    """XᵀX of each (n, r), stacked: (k, r, r) in float64. A diverged factor is the loop's to report: 0."""
    stacked = torch.stack(list(factors)).double().nan_to_num(0.0, 0.0, 0.0)
    return stacked.mT @ stacked


def geometric_mean(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Of the positive definite `left` and the inverse of `right`, (k, r, r) each: S, with S right S = left,
    and S⁻¹; identities where one of the two is singular up to rounding."""
    lengths, axes = torch.linalg.eigh(right)
    regular = _regular(lengths)
    root = lengths.where(regular, 1.0).sqrt()[:, None, :]
    half, inverse_half = (axes * root) @ axes.mT, (axes / root) @ axes.mT
    squares, turned = torch.linalg.eigh(half @ left @ half)
    regular = regular & _regular(squares)
    middle = squares.where(regular, 1.0).sqrt()[:, None, :]
    outer, inner = inverse_half @ turned, half @ turned
    same = torch.eye(left.shape[-1], dtype=left.dtype, device=left.device)
    mean, inverse = (outer * middle) @ outer.mT, (inner / middle) @ inner.mT
    return mean.where(regular[:, :, None], same), inverse.where(regular[:, :, None], same)


def _regular(eigenvalues: Tensor) -> Tensor:
    """Whether the ascending eigenvalues (k, r) are those of an invertible matrix, (k, 1)."""
    return eigenvalues[:, :1] > SINGULAR * eigenvalues[:, -1:]
