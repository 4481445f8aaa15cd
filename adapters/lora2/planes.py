"""LoRA²'s layers (Zhang et al. 2024, arXiv 2408.06854), and how far their planes are from orthonormal.

In Δ = s · V₂ U₂ diag(e) V₁ U₁, e starts at zero, the rest at N(0, 0.02²). With P = V₂ U₂ and Q = V₁ U₁,
equation 5 has, in squared Frobenius norms:

    uv   ‖V₂ᵀV₂ - I‖² + ‖U₂U₂ᵀ - I‖²      the factors of P
    UV   ‖V₁ᵀV₁ - I‖² + ‖U₁U₁ᵀ - I‖²      the factors of Q
    PQ   ‖PᵀP - I‖² + ‖QQᵀ - I‖²           the planes themselves, by (r, r) matrices

Of V₁ and U₂ the smaller Gram matrix is taken: the larger one's norm² is the same plus |k - r|. Where
k < r, PᵀP and QQᵀ have rank k, and PQ cannot fall below 2 (r - k).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from rankbench.adapters.forms import Factors
from rankbench.adapters.layers import Linear, precision_of, shape_of
from rankbench.adapters.low_rank import LowRankLayer

REGULARISERS = ("uv", "UV", "PQ")
"""The three terms of equation 5, by the paper's names."""


class TwoPlaneLinear(LowRankLayer):
    """A frozen layer with `U1` (k, in), `V1` (r, k), `e` (r), `U2` (k, r), `V2` (out, k), `scale`."""

    def __init__(
        self, base: Linear, rank: int, width: int, scale: float, generator: Generator | None
    ) -> None:
        super().__init__(base)
        device, (out_features, in_features) = base.weight.device, shape_of(base)
        dtype = torch.promote_types(precision_of(base), torch.float32)

        def drawn(rows: int, columns: int) -> nn.Parameter:
            start = torch.empty(rows, columns, dtype=dtype).normal_(std=0.02, generator=generator)
            return nn.Parameter(start.to(device))

        self.U1, self.V1 = drawn(width, in_features), drawn(rank, width)
        self.e = nn.Parameter(torch.zeros(rank, dtype=dtype, device=device))
        self.U2, self.V2 = drawn(width, rank), drawn(out_features, width)
        self.scale = scale

    @override
    def factors(self) -> tuple[Tensor, Tensor]:
        """V₂ U₂ diag(e) V₁ (out, k) and U₁ᵀ (in, k): no product over tokens is wider than k."""
        return self.V2 @ ((self.U2 * self.e) @ self.V1), self.U1.t()

    @override
    def thinnest(self) -> Factors:
        """V₂ U₂ diag(e) (out, r) and (V₁ U₁)ᵀ (in, r) of the e that are left, if they are fewer than k."""
        left = self.e.nonzero().flatten()
        if len(left) >= len(self.U1):
            return super().thinnest()
        return Factors(self.V2 @ (self.U2 * self.e)[:, left], (self.V1[left] @ self.U1).t(), self.scale)


def orthogonality(layers: Sequence[TwoPlaneLinear]) -> dict[str, Tensor]:
    """Each of `REGULARISERS`, the mean over layers; layers of one shape at once."""
    groups: dict[tuple[int, int], list[TwoPlaneLinear]] = defaultdict(list)
    for layer in layers:
        groups[shape_of(layer.base)].append(layer)
    found: dict[str, list[Tensor]] = {name: [] for name in REGULARISERS}
    for group in groups.values():
        factors = ([getattr(layer, name) for layer in group] for name in ("U1", "V1", "U2", "V2"))
        u1, v1, u2, v2 = map(torch.stack, factors)
        gram_u1, gram_v2 = u1 @ u1.mT, v2.mT @ v2
        found["uv"] += [_from_identity(gram_v2), _from_identity(_thin_gram(u2))]
        found["UV"] += [_from_identity(_thin_gram(v1)), _from_identity(gram_u1)]
        # PᵀP and QQᵀ from the Gram matrices at hand: neither plane is formed.
        found["PQ"] += [_from_identity(u2.mT @ gram_v2 @ u2), _from_identity(v1 @ gram_u1 @ v1.mT)]
    return {name: torch.stack(norms).sum() / len(layers) for name, norms in found.items()}


def _thin_gram(x: Tensor) -> Tensor:
    return x @ x.mT if x.shape[-2] <= x.shape[-1] else x.mT @ x


def _from_identity(grams: Tensor) -> Tensor:
    return (grams - torch.eye(grams.shape[-1], dtype=grams.dtype, device=grams.device)).square().sum()
