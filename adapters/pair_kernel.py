"""The fold of a pair (`adapters.pairs`) in one kernel, which reads and writes 8 bytes a weight: in place of
ten kernels for each 16 MiB. Imported where Triton is."""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 64, 128
"""Of a tile: of five sizes that were tried on an H200 the fastest."""
DEPTH = 16
"""Columns of the factors that are multiplied at once: the fewest that a matrix unit takes."""


@triton.jit
def _add_product(  # type: ignore[no-untyped-def]
    value, remainder, left, right, scale, rows, columns, rank,
    value_row, value_column, remainder_row, remainder_column, left_row, left_column, right_row, right_column,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    # One tile of value and remainder, both as int16. (Triton's pointers have no Python types.)
    i = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    j = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    product = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for first in range(0, rank, DEPTH):
        k = first + tl.arange(0, DEPTH)
        row, column = k[None, :], k[:, None]
        lefts = tl.load(left + i * left_row + row * left_column, (i < rows) & (row < rank), 0.0)
        rights = tl.load(right + j * right_row + column * right_column, (j < columns) & (column < rank), 0.0)
        product = tl.dot(lefts, rights, product, input_precision="ieee")
    there = (i < rows) & (j < columns)
    values = value + i * value_row + j * value_column
    remainders = remainder + i * remainder_row + j * remainder_column
    upper = tl.load(values, there, 0).to(tl.int32)
    lower = tl.load(remainders, there, 0).to(tl.int32)
    total = (upper * 65536 + lower).to(tl.float32, bitcast=True) + scale * product
    bits = total.to(tl.int32, bitcast=True)
    upper = (bits + 32767 + ((bits >> 16) & 1)) >> 16  # to nearest, ties to even
    lower = tl.minimum(bits - upper * 65536, 32767)
    tl.store(values, upper.to(tl.int16), there)
    tl.store(remainders, lower.to(tl.int16), there)


def add_product(value: Tensor, remainder: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """Add scale · left rightᵀ to a pair, in place: value (rows, columns) in bfloat16, remainder in int16,
    left (rows, r) and right (columns, r) in float32, all on one GPU. What is no number has no pair."""
    rows, columns = value.shape
    if not rows:  # another process holds them all
        return
    tiles = triton.cdiv(rows, ROWS), triton.cdiv(columns, COLUMNS)
    with torch.cuda.device_of(value):
        _add_product[tiles](
            value.view(torch.int16), remainder, left, right, scale, rows, columns, left.shape[1],
            *value.stride(), *remainder.stride(), *left.stride(), *right.stride(),
            ROWS=ROWS, COLUMNS=COLUMNS, DEPTH=DEPTH,
        )  # fmt: skip
