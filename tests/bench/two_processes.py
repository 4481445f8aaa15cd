"""A second backend: runs in two spawned processes at once, which know nothing but what is pickled to them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from rankbench.bench.backends.seam import Result
from rankbench.bench.run.runner import Listener, Order, run

PROCESSES = 2
_stop: Any = None
"""In a spawned process: set when it is to save its state and end."""


def two_processes(
    orders: Iterator[Order], listen: Callable[[Order], Listener]
) -> Iterator[tuple[Order, Result]]:
    spawning = multiprocessing.get_context("spawn")
    stop = spawning.Event()
    with ProcessPoolExecutor(PROCESSES, spawning, _born, (stop,)) as pool:
        running: dict[Future[Result], Order] = {}
        try:
            for order in orders:
                running[pool.submit(_done, order)] = order
                while len(running) == PROCESSES:
                    yield from _ended(running, listen, stop)
            while running:
                yield from _ended(running, listen, stop)
        finally:
            stop.set()  # whoever still runs ends in Interrupted, and is waited for


def _ended(
    running: dict[Future[Result], Order], listen: Callable[[Order], Listener], stop: Any
) -> Iterator[tuple[Order, Result]]:
    for future in wait(running, timeout=0.05, return_when=FIRST_COMPLETED).done:
        order = running.pop(future)
        yield order, future.result()
    if any(listen(order).stopped() for order in running.values()):
        stop.set()


def _born(stop: Any) -> None:
    global _stop
    _stop = stop


def _done(order: Order) -> Result:
    return run(order, Listener(stopped=_stop.is_set))
