"""The fold of a pair in one kernel is the float32 sum: on a GPU, or in Triton's interpreter
(TRITON_INTERPRET=1, where Triton is)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from rankbench.adapters.pairs import add_in_blocks, joined, split

pytestmark = pytest.mark.numerical

Fold = Callable[[Tensor, Tensor, Tensor, Tensor, float], None]


@pytest.fixture(autouse=True)
def where() -> Iterator[None]:
    """Tensors are made on the GPU, if there is one."""
    pytest.importorskip("triton", reason="Triton is not here: it comes with PyTorch's builds for GPUs")
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("no GPU here, and TRITON_INTERPRET is not 1")
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        yield


@pytest.fixture
def add_product() -> Fold:
    from rankbench.adapters import pair_kernel

    return pair_kernel.add_product


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator(torch.get_default_device()).manual_seed(0))


@pytest.mark.parametrize("rank", [1, 4, 16, 40])
@pytest.mark.parametrize(("rows", "columns"), [(64, 128), (65, 127), (3, 300), (130, 1)])
def test_a_fold_is_the_float32_sum(add_product: Fold, rows: int, columns: int, rank: int) -> None:
    start = normal(rows, columns)
    left = normal(rank, rows).t()  # by columns, as the factors lie
    right = normal(columns, 2 * rank)[:, ::2]
    value, remainder = split(start)
    plain = split(start)
    before = joined(value, remainder)
    add_product(value, remainder, left, right, 0.3)
    add_in_blocks([(*plain, left, right)], 0.3)
    exact = before.double() + 0.3 * left.double() @ right.double().t()
    size = before.abs().double() + 0.3 * left.abs().double() @ right.abs().double().t()
    total = joined(value, remainder)
    assert ((total - exact).abs() <= (rank + 2) * 2**-24 * size).all(), "no more than float32's own rounding"
    assert ((joined(*plain) - exact).abs() <= (rank + 2) * 2**-24 * size).all()
    assert torch.equal(total.bfloat16(), value)


def test_what_lies_beside_a_part_of_a_pair_stays(add_product: Fold) -> None:
    """A process of several holds some rows."""
    value, remainder = split(torch.ones(6, 40))
    add_product(value[2:4], remainder[2:4], torch.ones(2, 1), torch.ones(40, 1), 2.0**-20)
    total = joined(value, remainder)
    assert (total[2:4] == 1 + 2.0**-20).all()
    assert (total[:2] == 1).all()
    assert (total[4:] == 1).all()
    add_product(value[:0], remainder[:0], torch.ones(0, 1), torch.ones(40, 1), 1.0)
    assert torch.equal(joined(value, remainder), total)


def test_a_sum_in_the_middle_between_two_values_is_split_as_on_the_plain_way(add_product: Fold) -> None:
    """1 + 2⁻⁸ is rounded towards zero, and its remainder has no room: it is moved by its last bit."""
    (value, remainder), plain = split(torch.ones(4, 8)), split(torch.ones(4, 8))
    left, right = torch.ones(4, 1), torch.ones(8, 1)
    add_product(value, remainder, left, right, 2.0**-8)
    add_in_blocks([(*plain, left, right)], 2.0**-8)
    assert torch.equal(joined(value, remainder), torch.full((4, 8), 1 + 2.0**-8 - 2.0**-23))
    assert torch.equal(joined(*plain), joined(value, remainder))


def test_a_weight_may_lie_by_columns(add_product: Fold) -> None:
    start, left, right = normal(40, 70), normal(40, 3), normal(70, 3)
    value, remainder = split(start)
    other = value.t().contiguous().t()
    add_product(value, remainder.clone(), left, right, 1.0)
    add_product(other, remainder, left, right, 1.0)
    assert torch.equal(other, value)


def test_every_pair_is_split_as_on_the_plain_way(add_product: Fold) -> None:
    """Each lower half beside upper halves of both signs, and nothing added."""
    upper = torch.tensor([0x0080, 0x3F7F, 0x3F80, 0x3F81, 0x7F7E, 0x7F7F], dtype=torch.int32)
    upper = torch.cat([upper, upper - 2**15]) << 16
    total = (upper[:, None] + torch.arange(2**16, dtype=torch.int32)).view(torch.float32)
    value, remainder = split(total)
    kept = value.clone(), remainder.clone()
    add_product(value, remainder, torch.ones(len(total), 1), torch.ones(2**16, 1), 0.0)
    assert torch.equal(value, kept[0])
    assert torch.equal(remainder, kept[1])
