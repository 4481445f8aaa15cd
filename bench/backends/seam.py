"""What a backend is, orders in, what came of them out; and the one there is: `here`, in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TypeAlias

from rankbench.bench.run.failures import Failure
from rankbench.bench.run.runner import Done, Listener, Order, run

Result: TypeAlias = Done | Failure

Results: TypeAlias = Generator[tuple[Order, Result], None, None]

Backend: TypeAlias = Callable[[Iterator[Order], Callable[[Order], Listener]], Results]
"""Draws an order (of at most `operator.length_hint`) whenever it has room for one, has it done by
`run.runner.run` wherever it likes, and yields what came of it, in any order; orders and results can be
pickled.

It draws and yields in the thread that it is called in: a drawn order is a lock that is held. It ends with
Interrupted where the orders do, or where a listener says that it was asked to stop; what is under way has
saved its state by then, as it has when the results are closed before their end. Only what is in a queue that
outlives its driver (Slurm's) goes on when they are closed, and the next driver waits for it.
"""


def here(orders: Iterator[Order], listen: Callable[[Order], Listener]) -> Results:
    """Each run when the one before it is written; every step is heard of."""
    for order in orders:
        yield order, run(order, listen(order))
