"""Runs in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rankbench.bench.backends.seam import Result
from rankbench.bench.run.runner import Listener, Order, run


def here(orders: Iterator[Order], listen: Callable[[Order], Listener]) -> Iterator[tuple[Order, Result]]:
    """Each run when the one before it is written; every step is heard of."""
    for order in orders:
        yield order, run(order, listen(order))
