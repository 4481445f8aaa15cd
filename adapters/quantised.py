"""Frozen weights in four bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314), as bitsandbytes' `Linear4bit`
holds them: packed, two to a byte, with a scale for each block.

They are unpacked where they are used, and the whole matrix is let go of after the product. The library is
needed by those that have such layers, and is imported by nobody else.
"""

from __future__ import annotations

import logging
import math
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

logging.getLogger("bitsandbytes").setLevel(
    logging.ERROR
)  # of faster kernels, which it would fetch from the hub


def in_four_bits(layer: nn.Module) -> TypeGuard[Any]:
    """Whether it is a layer of bitsandbytes' that holds its weight so, and has packed it already."""
    return type(layer).__name__ == "Linear4bit" and getattr(layer.weight, "quant_state", None) is not None


def count(parameter: nn.Parameter) -> int:
    """The numbers that it holds, packed or not."""
    packing = getattr(parameter, "quant_state", None)
    return parameter.numel() if packing is None else math.prod(packing.shape)


def unpacked(weight: Tensor, packing: Any = None) -> Tensor:
    """The whole matrix (out, in), in the precision that it was packed from: a copy. `packing`: the weight's
    `quant_state`, where it is not on it."""
    from bitsandbytes.functional import dequantize_4bit

    whole: Tensor = dequantize_4bit(weight.data, packing or weight.quant_state)  # type: ignore[attr-defined]
    return whole


def unpacked_layer(layer: Any, dtype: torch.dtype | None = None) -> nn.Linear:
    """A layer that anything can be folded into, in the place of one in four bits: unpacked, its bias the same
    one. By default in the precision that it was packed from."""
    made = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    whole = unpacked(layer.weight)
    made.weight = nn.Parameter(whole.to(dtype or whole.dtype), requires_grad=False)
    made.bias = layer.bias
    return made.train(layer.training)


def unpack(model: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Put such layers in the places of all that are in four bits."""
    for name, layer in [*model.named_modules()]:
        if in_four_bits(layer):
            model.set_submodule(name, unpacked_layer(layer, dtype))
