"""A bfloat16 weight that keeps what is smaller than its own step: a pair of 16 bits each, in the memory of
float32, of which products read the first half as it lies. Of a weight w in float32,

    value = bfloat16(w), to nearest, ties to even        remainder = bits(w) - bits(float32(value))

The upper 16 bits of a float32 number are a bfloat16, and rounding moves w's bits by at most 2¹⁵: the
remainder is an int16, and the pair is w itself, bit for bit. (Two bfloat16, of which one is what the other
lacks, would keep 16 bits of w's 24 of mantissa.) The one remainder that has no room is 2¹⁵ itself, of a tie
that was rounded towards zero, one number in 2¹⁷: there w is moved by its own last bit, to where it rounds to
the same value. So value = bfloat16(joined(value, remainder)) always: what autocast would make of w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

HIGHEST = 2**15 - 1
AT_ONCE = 2**22
"""Weights that a fold joins at once, 16 MiB in float32: it needs a few times that beside the weights."""

Product = tuple[Tensor, Tensor, Tensor, Tensor]
"""value and remainder (rows, columns), and what is added to them, left (rows, r) and right (columns, r)."""


def split(total: Tensor) -> tuple[Tensor, Tensor]:
    """Value (bfloat16) and remainder (int16) of a float32 tensor, of its shape."""
    value = total.to(torch.bfloat16)
    below = total.view(torch.int32) - value.float().view(torch.int32)
    return value, below.clamp_(max=HIGHEST).to(torch.int16)


def joined(value: Tensor, remainder: Tensor) -> Tensor:
    """The float32 tensor of a pair. The value may have been widened since."""
    bits = value.to(torch.float32, copy=True).view(torch.int32)
    return bits.add_(remainder).view(torch.float32)


def summed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's state in which each pair (NAME.base.weight, NAME.remainder) is the one float32 weight."""
    found = dict(tensors)
    for name in [name for name in tensors if name.endswith(".remainder")]:
        weight = f"{name.removesuffix('.remainder')}.base.weight"
        found[weight] = joined(found[weight], found.pop(name).view(torch.int16))
    return found


def add_products(products: Sequence[Product], scale: float) -> None:
    """Add scale · left rightᵀ to pairs of one shape, in place: in float32, split again, some rows of a large
    pair or several small pairs at once.

    The kernels are as many as there are pairs, for the products, and for the rest a dozen each time.
    """
    rows, columns = products[0][0].shape
    height = max(1, min(rows, AT_ONCE // max(1, columns)))
    blocks = [
        (*block, right)
        for value, remainder, left, right in products
        for block in zip(value.split(height), remainder.split(height), left.split(height), strict=True)
    ]
    many = max(1, AT_ONCE // max(1, height * columns))
    for first in range(0, len(blocks), many):
        values, remainders, lefts, rights = zip(*blocks[first : first + many], strict=True)
        total = joined(torch.stack(values), torch.stack(remainders))
        for each, left, right in zip(total, lefts, rights, strict=True):
            each.addmm_(left, right.t(), alpha=scale)
        for held, now in zip((values, remainders), split(total), strict=True):
            torch._foreach_copy_(list(held), list(now.unbind()))
