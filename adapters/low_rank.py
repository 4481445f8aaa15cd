"""Frozen linear layers with a low-rank increment, computed together where they read one input.

    y = x Wᵀ + bias + s (x B) Aᵀ        A (out, r), B (in, r)

Queries, keys and values read the same activation: side by side their thin products read it once
instead of three times, and the gradient with respect to it is accumulated in place.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.base import AdapterLinear, weight_of

SIBLINGS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Children of one module that its forward pass calls in this order with one tensor. Where it gives
them different ones after all, each is computed alone: only time is lost."""


class _LowRankProducts(torch.autograd.Function):
    """y_i = x W_iᵀ + bias_i + s_i (x B_i) A_iᵀ for each layer i that reads x; W and bias are frozen.

    The increment is written first and the frozen product is accumulated on it: the large product
    takes the sum along, where adding a thin one afterwards would read and write the whole output
    again. The thin factors are kept transposed, (r, tokens): then each large activation is read
    along its rows. Scales go into the products (alpha, beta), never into a pass of their own; the
    first argument of a product with beta=0 only gives the shape.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: tuple[float, ...], *tensors: Any) -> tuple[Tensor, ...]:
        rows = x.reshape(-1, x.shape[-1])
        a_t = [factor.t() for factor in tensors[2::4]]
        b_t = [factor.t() for factor in tensors[3::4]]
        b_all = b_t[0] if len(b_t) == 1 else torch.cat(b_t)
        projected = b_all @ rows.t()
        ctx.scales, ctx.ranks = scales, [factor.shape[0] for factor in b_t]
        parts = _parts(projected, ctx.ranks)
        outputs = []
        for i, scale in enumerate(scales):
            weight, bias = tensors[4 * i], tensors[4 * i + 1]
            # Not a view of the product: some models (Longformer) divide what a layer gives in place.
            outputs.append(rows.new_empty(*x.shape[:-1], weight.shape[0]))
            y = outputs[-1].view(-1, weight.shape[0])
            if bias is None:
                torch.mm(parts[i].t(), a_t[i], out=y).addmm_(rows, weight.t(), beta=scale)
            else:
                torch.addmm(bias, parts[i].t(), a_t[i], alpha=scale, out=y).addmm_(rows, weight.t())
        ctx.save_for_backward(rows, b_all, projected, *tensors[::4], *a_t)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, b_all, projected, *rest = ctx.saved_tensors
        count, parts = len(grads), _parts(projected, ctx.ranks)
        grad_rows = [grad.reshape(-1, grad.shape[-1]) for grad in grads]
        found: list[Tensor | None] = [None, None, None, None] * count
        back = []
        for i, (grad, factor, scale) in enumerate(zip(grad_rows, rest[count:], ctx.scales, strict=True)):
            found[4 * i + 2] = torch.addmm(factor, parts[i], grad, beta=0, alpha=scale).t()
            back.append(torch.addmm(parts[i], factor, grad.t(), beta=0, alpha=scale))
        back_all = back[0] if count == 1 else torch.cat(back)
        for i, part in enumerate(_parts(back_all @ rows, ctx.ranks)):
            found[4 * i + 3] = part.t()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = back_all.t() @ b_all
            for grad, weight in zip(grad_rows, rest, strict=False):
                grad_x.addmm_(grad, weight)
            grad_x = grad_x.view(*grads[0].shape[:-1], -1)
        return grad_x, None, *found


def _parts(rows: Tensor, ranks: list[int]) -> Sequence[Tensor]:
    return [rows] if len(ranks) == 1 else rows.split(ranks)


def low_rank_linears(
    x: Tensor, layers: Sequence[tuple[nn.Linear | Conv1D, Tensor, Tensor, float]]
) -> tuple[Tensor, ...]:
    """x (…, in) through every frozen layer and scale · a bᵀ beside it -> (…, out) each.

    `layers`: layer, a (out, r), b (in, r), scale. Computes in the frozen weights' dtype, or in
    autocast's where that is on.
    """
    weights = [weight_of(base) for base, *_ in layers]
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weights[0].dtype
    tensors: list[Tensor | None] = []
    for weight, (base, a, b, _) in zip(weights, layers, strict=True):
        tensors += (weight, base.bias, a, b)
    if any(tensor is not None and tensor.dtype != dtype for tensor in (x, *tensors)):
        x = x.to(dtype)
        tensors = [None if tensor is None else tensor.to(dtype) for tensor in tensors]
    outputs: tuple[Tensor, ...] = _LowRankProducts.apply(x, tuple(scale for *_, scale in layers), *tensors)
    return outputs


class LowRankLayer(AdapterLinear):
    """A frozen layer beside a product of two factors. Subclasses say which: `factors`, `scale`."""

    scale: float

    def __init__(self, base: nn.Linear | Conv1D) -> None:
        super().__init__(base)
        self.group = _Group([self])

    def factors(self) -> tuple[Tensor, Tensor]:
        """A (out, r) and B (in, r): the increment is scale · A Bᵀ."""
        raise NotImplementedError

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
        self.parameters = [p for layer in layers for p in layer.parameters()]
        self.waiting: dict[LowRankLayer, Tensor] = {}
        # Weak: the tensor must not be held for an output that is never asked for.
        self.input: weakref.ref[Tensor] | None = None
        self.stamp: tuple[int, int, bool] = (0, 0, False)

    def output(self, layer: LowRankLayer, x: Tensor) -> Tensor:
        if len(self.layers) == 1 or torch.is_inference_mode_enabled():
            return _outputs([layer], x)[0]
        stamp = (x._version, sum(p._version for p in self.parameters), torch.is_grad_enabled())
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


def share_inputs(layers: Mapping[str, nn.Module]) -> None:
    """Let adapted layers that are `SIBLINGS` under one parent compute together: all of them, or
    those that are adapted; on one device and in one dtype."""
    for name in layers:
        parent, _, child = name.rpartition(".")
        for siblings in SIBLINGS:
            names = [f"{parent}.{other}".removeprefix(".") for other in siblings]
            group = [layer for n in names if isinstance(layer := layers.get(n), LowRankLayer)]
            weights = [weight_of(layer.base) for layer in group]
            if child != siblings[0] or len({(w.shape[1], w.device, w.dtype) for w in weights}) != 1:
                continue
            shared = _Group(group)
            for layer in group:
                layer.group = shared
