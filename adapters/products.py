"""Frozen linear layers and thin increments beside them, as one autograd function.

    y_i = x W_iᵀ + bias_i + s_i (x B_i) A_iᵀ        A_i (out, r), B_i (in, r), W_i and bias_i frozen

The gradients are those of the formula; what is ours is the order of the products, for speed. A W_i that is
held in four bits is unpacked for its product, in the forward pass and again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rankbench.adapters.layers import Linear, precision_of, weight_of
from rankbench.adapters.quantised import in_four_bits, unpacked


class _LowRankProducts(torch.autograd.Function):
    """All layers i that read x.

    The increment is written first and the frozen product is accumulated on it: the large product
    takes the sum along, where adding a thin one afterwards would read and write the whole output
    again. The thin factors are kept transposed, (r, tokens): then each large activation is read
    along its rows. Scales go into the products (alpha, beta), never into a pass of their own; the
    first argument of a product with beta=0 only gives the shape.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scales: tuple[float, ...], packings: tuple[Any, ...], *tensors: Any
    ) -> tuple[Tensor, ...]:
        # A layer whose output nobody used has no gradient, as a layer by itself has none.
        ctx.set_materialize_grads(False)
        rows = x.reshape(-1, x.shape[-1])
        a_t = [factor.t() for factor in tensors[2::4]]
        b_t = [factor.t() for factor in tensors[3::4]]
        b_all = b_t[0] if len(b_t) == 1 else torch.cat(b_t)
        projected = b_all @ rows.t()
        ctx.scales, ctx.packings, ctx.ranks = scales, packings, [factor.shape[0] for factor in b_t]
        ctx.shape = x.shape
        parts = _parts(projected, ctx.ranks)
        outputs = []
        for i, scale in enumerate(scales):
            weight, bias = _matrix(tensors[4 * i], packings[i], rows.dtype), tensors[4 * i + 1]
            # Not a view of the product: some models (Longformer) divide what a layer gives in place.
            outputs.append(rows.new_empty(*x.shape[:-1], weight.shape[0]))
            y = outputs[-1].view(-1, weight.shape[0])
            if bias is None:
                torch.mm(parts[i].t(), a_t[i], out=y).addmm_(rows, weight.t(), beta=scale)
            else:
                torch.addmm(bias, parts[i].t(), a_t[i], alpha=scale, out=y).addmm_(rows, weight.t())
        # Where no b is trained (LoRA-FA), the backward pass has no use for what came in.
        kept = rows if any(ctx.needs_input_grad[6::4]) else None
        ctx.save_for_backward(kept, b_all, projected, *tensors[::4], *a_t)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        rows, b_all, projected, *rest = ctx.saved_tensors
        count, parts = len(grads), _parts(projected, ctx.ranks)
        grad_rows = [None if grad is None else grad.reshape(-1, grad.shape[-1]) for grad in grads]
        found: list[Tensor | None] = [None, None, None, None] * count
        back = []
        for i, (grad, factor, scale) in enumerate(zip(grad_rows, rest[count:], ctx.scales, strict=True)):
            if grad is None:
                back.append(torch.zeros_like(parts[i]))
                continue
            found[4 * i + 2] = torch.addmm(factor, parts[i], grad, beta=0, alpha=scale).t()
            back.append(torch.addmm(parts[i], factor, grad.t(), beta=0, alpha=scale))
        back_all = back[0] if count == 1 else torch.cat(back)
        if rows is not None:
            for i, part in enumerate(_parts(back_all @ rows, ctx.ranks)):
                found[4 * i + 3] = None if grads[i] is None else part.t()
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = back_all.t() @ b_all
            for grad, weight, packing in zip(grad_rows, rest[:count], ctx.packings, strict=True):
                if grad is not None:
                    grad_x.addmm_(grad, _matrix(weight, packing, grad.dtype))
            grad_x = grad_x.view(ctx.shape)
        return grad_x, None, None, *found


def _matrix(weight: Tensor, packing: Any, dtype: torch.dtype) -> Tensor:
    """(out, in) of a weight that may be packed."""
    return weight if packing is None else unpacked(weight, packing).to(dtype)


def _parts(rows: Tensor, ranks: list[int]) -> Sequence[Tensor]:
    return [rows] if len(ranks) == 1 else rows.split(ranks)


def low_rank_linears(x: Tensor, layers: Sequence[tuple[Linear, Tensor, Tensor, float]]) -> tuple[Tensor, ...]:
    """x (…, in) through every frozen layer and scale · a bᵀ beside it -> (…, out) each.

    `layers`: layer, a (out, r), b (in, r), scale. Computes in the frozen weights' precision, or in
    autocast's where that is on.
    """
    first, kind = layers[0][0], x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else precision_of(first)
    packings = tuple(base.weight.quant_state if in_four_bits(base) else None for base, *_ in layers)
    tensors: list[Tensor | None] = []
    for base, a, b, _ in layers:
        tensors += (base.weight.data if in_four_bits(base) else weight_of(base), base.bias, a, b)
    if any(tensor is not None and tensor.dtype != dtype for tensor in (x, *tensors)):
        x = x.to(dtype)
        tensors = [tensor.to(dtype) if _is_wide(tensor) else tensor for tensor in tensors]
    scales = tuple(scale for *_, scale in layers)
    outputs: tuple[Tensor, ...] = _LowRankProducts.apply(x, scales, packings, *tensors)
    return outputs


def _is_wide(tensor: Tensor | None) -> TypeGuard[Tensor]:
    return tensor is not None and tensor.is_floating_point()
