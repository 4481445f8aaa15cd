"""ScaLoRA's rescale (Zhang et al., arXiv 2510.23818) of layers of one shape, all at once.

    Ã = A diag(α), B̃ = B diag(β), W ← W + s (A Bᵀ − Ã B̃ᵀ): the layer's function stays.

By the chain rule the gradients cross the scales: A's is s G B, so it takes β, and B's takes α. Moments
follow their gradients, second moments by the squares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rankbench.adapters.lora import LowRankLinear
from rankbench.adapters.shards import add_product


def groups_of(layers: Iterable[nn.Module]) -> list[list[LowRankLinear]]:
    """The layers that have gradients, by shape and device."""
    groups: dict[tuple[Any, ...], list[LowRankLinear]] = defaultdict(list)
    for layer in layers:
        assert isinstance(layer, LowRankLinear)
        if layer.A.grad is not None:
            groups[(*layer.A.shape, *layer.B.shape, layer.A.device)].append(layer)
    return list(groups.values())


def factors(group: list[LowRankLinear]) -> list[Tensor]:
    """A, B and their gradients, each stacked to (k, rows, r), copied in the layout in which they lie: by
    columns."""
    a, b = [layer.A for layer in group], [layer.B for layer in group]
    parts = (a, b, [gradient(factor) for factor in a], [gradient(factor) for factor in b])
    return [torch.stack([matrix.t() for matrix in part]).mT for part in parts]


def gradient(factor: nn.Parameter) -> Tensor:
    """The gradient that a factor holds."""
    assert factor.grad is not None
    return factor.grad


def fold(
    group: list[LowRankLinear], a: Tensor, alpha: Tensor, beta: Tensor, optimizer: Optimizer, *, carry: bool
) -> None:
    """Rescale by α, β (k, 1, r), with A stacked as `a`; `carry` says whether moments follow."""
    for layer, left in zip(group, (a * (1 - alpha * beta)).unbind(), strict=True):
        add_product(layer.base, left, layer.B, layer.scale)
    alphas, betas = list(alpha.unbind()), list(beta.unbind())
    for parameters, own, other in (
        ([layer.A for layer in group], alphas, betas),
        ([layer.B for layer in group], betas, alphas),
    ):
        torch._foreach_mul_(list[Tensor](parameters), own)
        torch._foreach_mul_([gradient(factor) for factor in parameters], other)
        # The optimizer holds no moments before its first step.
        held = [
            (optimizer.state[factor], scale)
            for factor, scale in zip(parameters, other, strict=True)
            if carry and optimizer.state.get(factor)
        ]
        if held:
            torch._foreach_mul_([state["exp_avg"] for state, _ in held], [scale for _, scale in held])
            squares = [scale.square() for _, scale in held]
            torch._foreach_mul_([state["exp_avg_sq"] for state, _ in held], squares)
