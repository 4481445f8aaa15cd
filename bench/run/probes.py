"""Ranks of what training adds to a few layers, and of the gradients that it would follow."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

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
        self.start = {name: adapter.weight(name).detach().clone() for name in probed(adapter)}

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
    """The layers of which no more positions reach the loss, over all their calls, than there are inputs: a
    pooler, or what comes before it in the last block. Their ranks are bounded by that number."""


class _Call(NamedTuple):
    """One of a layer's calls: ALBERT shares a layer among blocks, DeBERTa reads positions with it too."""

    layer: str
    input: Tensor
    output: Tensor


def gradient_ranks(
    model: nn.Module, adapter: Adapter, loss: Callable[[nn.Module, dict[str, Tensor]], Tensor], batch: Batch
) -> GradientRanks:
    """Ranks of gradients that training never forms, on one batch without dropout.

    Leaves gradients, mode and generators as they were.
    """
    seen: list[_Call] = []

    def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda _, inputs, output: seen.append(_Call(name, inputs[0].detach(), output))

    handles = [adapter.layers[name].register_forward_hook(keep(name)) for name in probed(adapter)]
    training, inputs = model.training, batch.to(next(model.parameters()).device).inputs
    try:
        try:
            with torch.enable_grad(), recomputing(model.eval()):
                value = loss(model, inputs)
        finally:
            for handle in handles:  # before anything is recomputed
                handle.remove()
        by_output = torch.autograd.grad(value, [call.output for call in seen], allow_unused=True)
    finally:
        model.train(training)
    count = len(next(iter(batch.inputs.values())))
    gradients: dict[str, Tensor] = {}
    positions: Counter[str] = Counter()
    for (name, x, _), dy in zip(seen, by_output, strict=True):
        if dy is None:
            continue
        found = _rows(dy).mT @ _rows(x)
        gradients[name] = gradients[name] + found if name in gradients else found
        positions[name] += int(_rows(dy).any(dim=-1).sum())
    ranks = {name: numerical_rank(gradient) for name, gradient in gradients.items()}
    return GradientRanks(ranks, [name for name in ranks if positions[name] <= count])


@contextmanager
def recomputing(model: nn.Module) -> Iterator[None]:
    """Within, a model that recomputes activations in the backward pass (gradient checkpointing) does so in
    evaluation mode too, where transformers would keep them all. That mode is to last until they are. No block
    keeps keys for a next token, as some do in that mode: done again, it would add all of them once more."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer)
        and module.gradient_checkpointing
        and "forward" not in vars(module)  # it is wrapped by others
    ]
    found: list[Any] = [getattr(module, "config", None) for module in model.modules() if layers]
    caching = {id(config): config for config in found if getattr(config, "use_cache", False)}.values()
    for config in caching:
        config.use_cache = False
    for layer in layers:
        vars(layer)["forward"] = functools.partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for config in caching:
            config.use_cache = True
        for layer in layers:
            del vars(layer)["forward"]


def _rows(tensor: Tensor) -> Tensor:
    """(rows, features), in float32 at least: autocast mixes precisions, and bfloat16 would round the
    product above `RANK_TOLERANCE`."""
    return tensor.flatten(0, -2).to(torch.promote_types(tensor.dtype, torch.float32))


def probed(adapter: Adapter) -> list[str]:
    """The layers that are looked at, by name."""
    names = list(adapter.layers)
    picked = torch.linspace(0, len(names) - 1, min(PROBED_LAYERS, len(names))).round().int().tolist()
    return [names[i] for i in picked]


def numerical_rank(matrix: Tensor) -> int:
    """Singular values above `RANK_TOLERANCE` × the largest; 0 for a matrix of zeros."""
    values = torch.linalg.svdvals(matrix.float() if matrix.dtype == torch.bfloat16 else matrix)
    return int((values > RANK_TOLERANCE * values[0]).sum()) if values[0] > 0 else 0
