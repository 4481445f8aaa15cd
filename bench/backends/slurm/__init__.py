"""Runs as job arrays of a Slurm cluster, submitted by submitit; needs a results folder that all nodes share.

The driver draws the runs of a whole array and holds them until they are written. A task whose time is up, or
whose node is wanted for another, saves its state and is queued again by itself; one that dies is submitted
anew. The driver may die: its tasks go on, and the next one waits for them instead of submitting.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from submitit import SlurmExecutor
from submitit.core.core import PicklingExecutor
from tqdm import tqdm

from rankbench.bench.backends.lost import Losses
from rankbench.bench.backends.seam import Backend, Results
from rankbench.bench.backends.slurm import queue
from rankbench.bench.backends.slurm.arrays import Arrays, Sent
from rankbench.bench.backends.slurm.ends import fate, left
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.runner import Listener, Order
from rankbench.bench.suite.slurm import Slurm

POLL_SECONDS = 10.0
"""Between two looks at the queue: it is everybody's."""

GONE_SECONDS = 60.0
"""From a task's end until it has left no result: a shared folder may show a new file that much later."""

STOPPING_SECONDS = 2.0
"""Both, while somebody waits for the tasks to end."""


def slurm(folder: Path, settings: Slurm, executor: type[PicklingExecutor] = SlurmExecutor) -> Backend:
    """A backend whose pickles and logs lie in `folder`, while they are needed.

    Raises ConfigError where this machine has no Slurm; the backend does where Slurm refuses an array.
    """
    queue.require()
    arrays = Arrays(folder, settings, executor)

    def backend(orders: Iterator[Order], listen: Callable[[Order], Listener]) -> Results:
        losses = Losses()
        while drawn := list(islice(orders, settings.array_size)):
            yield from _done(arrays, drawn, listen, losses)

    return backend


def _done(
    arrays: Arrays, orders: Sequence[Order], listen: Callable[[Order], Listener], losses: Losses
) -> Results:
    found = [arrays.find(order) for order in orders]
    sent = [one for one in found if one]
    sent += arrays.send([order for order, one in zip(orders, found, strict=True) if one is None])
    _tell(sent)
    gone: dict[str, float] = {}
    stopping = False
    while sent:
        again = []
        for one in _ended(sent, gone, STOPPING_SECONDS if stopping else GONE_SECONDS):
            sent.remove(one)
            result = left(one)
            if result is None and not stopping:
                result = fate(one, losses)
            if result is None:
                again.append(one.order)
            else:
                yield one.order, result
            arrays.forget(one)  # not before the record is written
        if again and not stopping:
            sent += arrays.send(again)
        pause = time.monotonic() + (STOPPING_SECONDS if stopping else POLL_SECONDS)
        while sent and time.monotonic() < pause:
            time.sleep(0.2)
            if not stopping and any(listen(one.order).stopped() for one in sent):
                stopping = True
                queue.end([one.task.job_id for one in sent])
    if stopping:
        raise Interrupted


def _tell(sent: Sequence[Sent]) -> None:
    jobs = dict.fromkeys(one.task.job_id.split("_")[0] for one in sent)
    runs = f"{len(sent)} run{'s' * (len(sent) > 1)}"
    tqdm.write(f"{runs} in Slurm's queue, as {', '.join(jobs)}", file=sys.stderr)


def _ended(sent: Sequence[Sent], gone: dict[str, float], patience: float) -> Iterator[Sent]:
    """What has a result, or left the queue without one for so many seconds; `gone` since when."""
    queued, now = queue.queued(), time.monotonic()
    for one in tuple(sent):
        task = one.task.job_id
        if one.task.paths.result_pickle.exists():
            yield one
        elif queued is None or task in queued:
            gone.pop(task, None)
        elif now - gone.setdefault(task, now) >= patience:
            yield one
