"""What a fold into pairs takes on a GPU, of Llama 3 8B's adapted layers: in one kernel a pair, and in blocks.
`python -m tests.card_folds` prints milliseconds, and how much of the sums is equal."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from rankbench.adapters.pairs import Product, add_in_blocks, add_products, joined, kernel_on, split

SHAPES = [(4096, 4096), (1024, 4096), (1024, 4096), (14336, 4096), (4096, 14336)]
"""Of q, k, v, up and down of one layer."""
LAYERS, TRIED = 32, 4
"""Of the model, and how many are folded."""
RANK, ROUNDS = 8, 6

Folds = Callable[[Sequence[Product], float], None]


def drawn(rows: int, columns: int) -> Product:
    """A pair, and a product in the layout in which factors lie."""
    pair = split(torch.randn(rows, columns, device="cuda"))
    left, right = (torch.randn(RANK, size, device="cuda").t() for size in (rows, columns))
    return *pair, 1e-3 * left, right


def milliseconds(folds: Folds, groups: Sequence[Sequence[Product]]) -> float:
    """The median of some rounds, as if it were all layers."""
    taken = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for group in groups:
            folds(group, 0.5)
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken) * LAYERS / TRIED


if __name__ == "__main__":
    groups = [[drawn(*shape) for _ in range(TRIED)] for shape in SHAPES]
    kernel = kernel_on(groups[0][0][0].device)
    print(torch.cuda.get_device_name(), "" if kernel else "(no kernel: both ways are the same)")
    for group in groups:
        again = [(value.clone(), remainder.clone(), *product) for value, remainder, *product in group]
        add_products(group, 0.7)
        add_in_blocks(again, 0.7)
        pairs = [(joined(*one[:2]), joined(*other[:2])) for one, other in zip(group, again, strict=True)]
        equal = statistics.mean(float((one == other).float().mean()) for one, other in pairs)
        apart = max(float((one - other).abs().max()) for one, other in pairs)
        print(f"{tuple(group[0][0].shape)}: {equal:.2%} equal, at most {apart:.1e} apart")
    for _ in range(2):
        for name, folds in (("one kernel a pair", add_products), ("in blocks", add_in_blocks)):
            print(f"{name}: {milliseconds(folds, groups):.1f} ms")
