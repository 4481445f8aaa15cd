"""Ranks of what training adds to a few layers, and of the gradients that it would follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rankbench.adapters import Adapter
from rankbench.tasks import Batch

RANK_TOLERANCE = 1e-3
"""Singular values below this share of the largest do not count: above float32 rounding of
(weight now - weight before), below anything that training has put there."""

PROBED_LAYERS = 6


class RankProbe:
    """Rank of what training has added to a few evenly spaced layers, whatever the adapter."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.start = {name: adapter.weight(name).detach().clone() for name in _probed(adapter)}

    def ranks(self) -> dict[str, int]:
        """Layer name -> number of singular values of the update above `RANK_TOLERANCE` × the largest."""
        return {
            name: numerical_rank(self.adapter.weight(name).detach() - before)
            for name, before in self.start.items()
        }


class GradientRanks(NamedTuple):
    """Of the layers of `RankProbe`."""

    ranks: dict[str, int]
    """Layer name -> numerical rank of the loss's gradient by the layer's whole weight."""
    one_position: list[str]
    """The layers of which no more positions reach the loss than there are inputs: a pooler, or what comes
    before it in the last block. Their ranks are bounded by that number."""


def gradient_ranks(
    model: nn.Module, adapter: Adapter, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor], batch: Batch
) -> GradientRanks:
    """Ranks of gradients that training never forms, on one batch without dropout.

    Leaves gradients, mode and generators as they were.
    """
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, inputs, output: seen.update({name: (inputs[0].detach(), output)})

    handles = [adapter.layers[name].register_forward_hook(keep(name)) for name in _probed(adapter)]
    training, inputs = model.training, batch.to(next(model.parameters()).device).inputs
    try:
        with torch.enable_grad():
            value = loss(model.eval(), inputs)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    by_output = torch.autograd.grad(value, [output for _, output in seen.values()])
    count = len(next(iter(batch.inputs.values())))
    ranks, one_position = {}, []
    for (name, (x, _)), dy in zip(seen.items(), by_output, strict=True):
        ranks[name] = numerical_rank(_rows(dy).mT @ _rows(x))
        if _rows(dy).any(dim=-1).sum() <= count:
            one_position.append(name)
    return GradientRanks(ranks, one_position)


def _rows(tensor: Tensor) -> Tensor:
    """(rows, features), in float32 at least: autocast mixes precisions, and bfloat16 would round the
    product above `RANK_TOLERANCE`."""
    return tensor.flatten(0, -2).to(torch.promote_types(tensor.dtype, torch.float32))


def _probed(adapter: Adapter) -> list[str]:
    names = list(adapter.layers)
    picked = torch.linspace(0, len(names) - 1, min(PROBED_LAYERS, len(names))).round().int().tolist()
    return [names[i] for i in picked]


def numerical_rank(matrix: Tensor) -> int:
    """Singular values above `RANK_TOLERANCE` × the largest; 0 for a matrix of zeros."""
    values = torch.linalg.svdvals(matrix.float() if matrix.dtype == torch.bfloat16 else matrix)
    return int((values > RANK_TOLERANCE * values[0]).sum()) if values[0] > 0 else 0
