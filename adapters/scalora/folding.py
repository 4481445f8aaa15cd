"""ScaLoRA's rescale (Zhang et al., arXiv 2510.23818) of layers of one shape, all at once.

    Ã = A diag(α), B̃ = B diag(β), W ← W + s (A Bᵀ − Ã B̃ᵀ): the layer's function stays.

By the chain rule the gradients cross the scales: A's is s G B, so it takes β, and B's takes α. Moments
follow their gradients, second moments by the squares.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.errors import AdapterError
from rankbench.adapters.lora import LowRankLinear
from rankbench.adapters.pairs import Product, add_products
from rankbench.adapters.scalora.layers import FoldedLinear
from rankbench.adapters.shards import add_product, part

ADAM = {"step": None, "exp_avg": None, "exp_avg_sq": None}.keys()
"""What Adam and AdamW hold of a parameter, by their own names."""


def groups_of(layers: Iterable[nn.Module]) -> list[list[LowRankLinear]]:
    """The layers that have gradients, by shape and device."""
    groups: dict[tuple[Any, ...], list[LowRankLinear]] = defaultdict(list)
    for layer in layers:
        assert isinstance(layer, LowRankLinear)
        if layer.A.grad is not None:
            weight = layer.base.weight
            groups[layer.A.shape, layer.B.shape, weight.shape, weight.dtype, layer.A.device].append(layer)
    return list(groups.values())


def factors(group: list[LowRankLinear]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A, B and their gradients, each stacked to (k, rows, r)."""
    a, b = [layer.A for layer in group], [layer.B for layer in group]
    p, q = [gradient(factor) for factor in a], [gradient(factor) for factor in b]
    return _stacked(a), _stacked(b), _stacked(p), _stacked(q)


def gradient(factor: nn.Parameter) -> Tensor:
    """The gradient that a factor holds."""
    assert factor.grad is not None
    return factor.grad


def fold(
    group: list[LowRankLinear], alpha: Tensor, beta: Tensor, optimizer: Optimizer, *, carry: bool
) -> None:
    """Rescale by α, β (k, 1, r); `carry` says whether moments follow. Raises as `moments` does, and as
    `FoldedLinear.check_held`."""
    if isinstance(group[0], FoldedLinear):
        group[0].check_held()
    alpha, beta = alpha.to(group[0].A), beta.to(group[0].A)
    _add_to_frozen(group, (_stacked([layer.A for layer in group]) * (1 - alpha * beta)).unbind())
    for parameters, scales, others in (
        ([layer.A for layer in group], alpha, beta),
        ([layer.B for layer in group], beta, alpha),
    ):
        found = [moments(optimizer, factor) if carry else {} for factor in parameters]
        held = [i for i, state in enumerate(found) if state]
        states = [found[i] for i in held]
        follow = torch.stack([others[i] for i in held]) if held else others[:0]
        _multiply(
            [
                *parameters,
                *(gradient(factor) for factor in parameters),
                *(state["exp_avg"] for state in states),
                *(state["exp_avg_sq"] for state in states),
            ],
            torch.cat([scales, others, follow, follow.square()]),
        )


def moments(optimizer: Optimizer, factor: nn.Parameter) -> Mapping[str, Tensor]:
    """`ADAM` of a factor; empty before the first step.

    Raises AdapterError where another optimizer holds something else, which would be left behind.
    """
    state: Mapping[str, Tensor] = optimizer.state.get(factor, {})
    if state and state.keys() != ADAM:
        raise AdapterError(
            f"{type(optimizer).__name__} holds {', '.join(state)} of a factor, and a rescale carries the "
            f"moments of Adam ({', '.join(ADAM)}) alone; take AdamW without amsgrad"
        )
    return state


def _add_to_frozen(group: list[LowRankLinear], lefts: Sequence[Tensor]) -> None:
    """Add s · left Bᵀ to each frozen weight: each process to the rows that it holds."""
    products: list[Product] = []
    for layer, left in zip(group, lefts, strict=True):
        if not isinstance(layer, FoldedLinear) or layer.remainder is None:
            add_product(layer.base, left, layer.B, layer.scale)
            continue
        rows, columns = (layer.B, left) if isinstance(layer.base, Conv1D) else (left, layer.B)
        products.append((*layer.pair(), part(rows, layer.base.weight), columns))
    if products:
        add_products(products, group[0].scale)


def _multiply(matrices: list[Tensor], scales: Tensor) -> None:
    """Each matrix (rows, r) by its scales, (k, 1, r), in place and in three kernels: `_foreach_mul_` has one
    for each matrix where shapes differ."""
    torch._foreach_copy_(matrices, list((_stacked(matrices) * scales).unbind()))


def _stacked(matrices: Sequence[Tensor]) -> Tensor:
    """(k, rows, r), copied in the layout in which the factors lie: by columns."""
    return torch.stack([matrix.t() for matrix in matrices]).mT
