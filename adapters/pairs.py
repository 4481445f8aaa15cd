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

import functools
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from subprocess import SubprocessError

import torch
from torch import Tensor

HIGHEST = 2**15 - 1
UPPER = 2**16
"""What the bits of a value are worth among those of a float32 number."""
AT_ONCE = 2**22
"""Weights that a fold joins at once, 16 MiB in float32: they and their pairs stay in a large GPU's cache."""

Product = tuple[Tensor, Tensor, Tensor, Tensor]
"""value and remainder (rows, columns), and what is added to them, left (rows, r) and right (columns, r)."""


def joined(value: Tensor, remainder: Tensor) -> Tensor:
    """The float32 tensor of a pair, bfloat16 and int16. The value may have been widened since."""
    upper = value.to(torch.bfloat16).view(torch.int16)
    return remainder.to(torch.int32).add_(upper, alpha=UPPER).view(torch.float32)


def split(total: Tensor) -> tuple[Tensor, Tensor]:
    """Value (bfloat16) and remainder (int16) of a float32 tensor, of its shape."""
    value, remainder = (torch.empty_like(total, dtype=kind) for kind in (torch.bfloat16, torch.int16))
    write(total, value, remainder)
    return value, remainder


def write(total: Tensor, value: Tensor, remainder: Tensor) -> None:
    """Put the pair of a float32 tensor there."""
    value.copy_(total)
    below = torch.sub(total.view(torch.int32), value.view(torch.int16), alpha=UPPER)
    remainder.copy_(below.clamp_(max=HIGHEST))


def add_products(products: Sequence[Product], scale: float) -> None:
    """Add scale · left rightᵀ to pairs of one shape, in place: in float32, split again. On a GPU with Triton
    one kernel does a pair."""
    value = products[0][0]
    # What only counts memory has tensors without values, of a class of their own.
    kernel = kernel_on(value.device) if type(value) is Tensor and value.is_cuda else None
    if kernel is None:
        add_in_blocks(products, scale)
    else:
        for product in products:
            kernel(*product, scale)


@functools.cache
def kernel_on(device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Tensor, float], None] | None:
    """The kernel by which a GPU folds pairs, built and tried. None where Triton is missing and, with a
    warning, where it cannot build: for want of a compiler, of Python's headers, of a folder to write to."""
    if find_spec("triton") is None:
        return None
    from rankbench.adapters.pair_kernel import add_product

    try:
        value, remainder = split(torch.zeros(1, 1, device=device))
        factor = torch.zeros(1, 1, device=device)
        add_product(value, remainder, factor, factor, 1.0)
    except (OSError, RuntimeError, SubprocessError) as error:
        said = f"folds into bfloat16 weights go the slow way: Triton cannot build ({error})"
        warnings.warn(said, stacklevel=2)
        return None
    return add_product


def add_in_blocks(products: Sequence[Product], scale: float) -> None:
    """The same on any device: some rows of a large pair or several small pairs at once. The kernels are the
    products', and ten each time."""
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
        value, remainder = _together(values), _together(remainders)
        total = joined(value, remainder)
        for each, left, right in zip(total, lefts, rights, strict=True):
            each.addmm_(left, right.t(), alpha=scale)
        write(total, value, remainder)
        if len(values) > 1:
            torch._foreach_copy_(list(values), list(value.unbind()))
            torch._foreach_copy_(list(remainders), list(remainder.unbind()))


def _together(tensors: Sequence[Tensor]) -> Tensor:
    """(k, rows, columns): a copy, but of a single one."""
    return tensors[0][None] if len(tensors) == 1 else torch.stack(list(tensors))
