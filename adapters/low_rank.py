"""Layers with a low-rank increment (`adapters.products`), computed together where they read one input.

Queries, keys and values read the same activation: side by side their thin products read it once
instead of three times, and the gradient with respect to it is accumulated in place.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from rankbench.adapters.base import LayerAdapter, Ranked
from rankbench.adapters.forms import Factors, PeftForm, lora_form
from rankbench.adapters.layers import AdapterLinear, Linear, precision_of, shape_of
from rankbench.adapters.products import low_rank_linears

SIBLINGS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Children of one module that its forward pass calls in this order with one tensor. Where it gives
them different ones after all, each is computed alone: only time is lost."""


class LowRankLayer(AdapterLinear):
    """A frozen layer beside a product of two factors. Subclasses say which: `factors`, `scale`."""

    scale: float

    def __init__(self, base: Linear) -> None:
        super().__init__(base)
        self.group = _Group([self])

    def factors(self) -> tuple[Tensor, Tensor]:
        """A (out, r) and B (in, r): the increment is scale · A Bᵀ."""
        raise NotImplementedError

    def thinnest(self) -> Factors:
        """The increment as a product of as few columns as are known to make it."""
        return Factors(*self.factors(), self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        return self.group.output(self, x)

    def delta(self) -> Tensor:
        """scale · A Bᵀ, (out, in)."""
        a, b = self.factors()
        return self.scale * (a @ b.t())


class _Group:
    """Layers that are called one after another with one tensor: the first call computes all.

    The others find their outputs waiting, if the tensor and every parameter are what they were.
    """

    def __init__(self, layers: Sequence[LowRankLayer]) -> None:
        self.layers = layers
        self.waiting: dict[LowRankLayer, Tensor] = {}
        # Weak: the tensor must not be held for an output that is never asked for.
        self.input: weakref.ref[Tensor] | None = None
        self.stamp: tuple[int, int, bool] = (0, 0, False)

    def versions(self) -> int:
        """Grows with every change of a parameter. Asked of the layers each time: where weights are in parts,
        others stand in their places while they are whole."""
        modules = [module for layer in self.layers for module in (layer, layer.base)]
        held = [p for module in modules for p in module._parameters.values()]
        return sum(p._version for p in held if p is not None)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, or what is pickled, waits for no call of this one's."""
        return vars(self) | {"waiting": {}, "input": None}

    def output(self, layer: LowRankLayer, x: Tensor) -> Tensor:
        if len(self.layers) == 1 or torch.is_inference_mode_enabled():
            return _outputs([layer], x)[0]
        stamp = (x._version, self.versions(), torch.is_grad_enabled())
        y = self.waiting.pop(layer, None)
        if y is not None and self.input is not None and self.input() is x and self.stamp == stamp:
            return y
        self.waiting.clear()
        if layer is not self.layers[0]:
            return _outputs([layer], x)[0]
        y, *others = _outputs(self.layers, x)
        self.waiting.update(zip(self.layers[1:], others, strict=True))
        self.input, self.stamp = weakref.ref(x), stamp
        return y


def _outputs(layers: Sequence[LowRankLayer], x: Tensor) -> tuple[Tensor, ...]:
    return low_rank_linears(x, [(layer.base, *layer.factors(), layer.scale) for layer in layers])


def _share_inputs(layers: Mapping[str, nn.Module]) -> None:
    """Let adapted layers that are `SIBLINGS` under one parent compute together: all of them, or
    those that are adapted; on one device and in one dtype."""
    for name in layers:
        parent, dot, child = name.rpartition(".")
        for siblings in SIBLINGS:
            found = [layers.get(f"{parent}{dot}{sibling}") for sibling in siblings]
            group = [layer for layer in found if isinstance(layer, LowRankLayer)]
            bases = [layer.base for layer in group]
            kinds = {(shape_of(base)[1], base.weight.device, precision_of(base)) for base in bases}
            if child == siblings[0] and len(kinds) == 1:
                shared = _Group(group)
                for layer in group:
                    layer.group = shared


@dataclass(kw_only=True)
class LowRankAdapter(Ranked, LayerAdapter):
    """An adapter whose layers are low-rank ones: those that read one input are computed together."""

    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        super().install(model, selected, generator)
        _share_inputs(self.layers)

    @override
    def peft_form(self) -> PeftForm:
        """A plain LoRA. Raises AdapterError where the frozen weights have moved too: increments of this rank
        add up to a higher one then."""
        if self.moves_base:
            return super().peft_form()
        layers = {name: layer for name, layer in self.layers.items() if isinstance(layer, LowRankLayer)}
        return lora_form(self.model, {name: layer.thinnest() for name, layer in layers.items()})
