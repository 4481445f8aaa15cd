"""One run in several processes of this machine: started here, followed, and ended together.

Each does the same run from start to end; PyTorch's collectives bind them wherever they share something. The
first one tells of its steps, is told to stop, and has the result.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from torch import distributed

from rankbench.bench.processes import ended, packed, start, unpacked
from rankbench.bench.records import Curve
from rankbench.bench.run.failures import FailedElsewhere, Failure, Interrupted, attempt
from rankbench.bench.run.order import POLL_SECONDS, Listener
from rankbench.bench.suite import ConfigError

HOST = "127.0.0.1"
GRACE_SECONDS = 3.0
"""After a process has failed: one that was killed is noticed by the others first, and is what to tell of."""
PATIENCE = timedelta(days=1)
"""How long one waits for another in a collective. One that dies is seen from here, whatever the others do."""

Result = TypeVar("Result")
Work = Callable[[Listener], Result]


def together(count: int, work: Work[Result], listener: Listener) -> Result:
    """What `work`, which can be pickled, returns in the first of `count` processes that all do it.

    Each has a GPU of its own, if there are any. The listener gets curves of one entry. Raises ConfigError
    where there are fewer GPUs than processes, Interrupted where `work` did, FailedElsewhere with what went
    wrong in one of the processes; all are ended then.
    """
    if torch.cuda.is_available() and (gpus := torch.cuda.device_count()) < count:
        raise ConfigError(
            f"processes: {count}, one GPU each, but only {gpus} can be seen here; lower it, or look at "
            "CUDA_VISIBLE_DEVICES"
        )
    spawning = multiprocessing.get_context("spawn")
    store = distributed.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    threads = max(1, torch.get_num_threads() // count)
    doing = packed(partial(_rank, work))
    ranks: dict[Connection, BaseProcess] = {}
    try:
        for rank in range(count):
            ours, theirs = spawning.Pipe()
            arguments = doing, theirs, rank, count, store.port, threads
            ranks[ours] = spawning.Process(target=unpacked, args=arguments, name=f"rank {rank}")
            # What they mean is decided here, in a process that is told of them too.
            start(ranks[ours], signal.SIGTERM, signal.SIGUSR2)
            theirs.close()
        return _judged([*ranks.values()], _ends(ranks, listener))
    finally:
        for process in ranks.values():
            process.kill()
            process.join()


def _ends(ranks: dict[Connection, BaseProcess], listener: Listener) -> dict[BaseProcess, Any]:
    """How the processes end, in the order in which they do: with what they sent last, or their exit code. All
    of them, unless one failed."""
    ends: dict[BaseProcess, Any] = {}
    first, until, asked = next(iter(ranks)), float("inf"), False
    while len(ends) < len(ranks) and time.monotonic() < until:
        if not asked and listener.stopped():
            asked = True
            with suppress(OSError):  # it is gone, which is seen below
                first.send(None)
        for channel in wait([c for c, process in ranks.items() if process not in ends], POLL_SECONDS):
            assert isinstance(channel, Connection)
            try:
                told = channel.recv()
            except (EOFError, OSError):
                ranks[channel].join()
                told = ranks[channel].exitcode
            if isinstance(told, Curve):
                listener.tick(told)
                continue
            ends[ranks[channel]] = told
            if isinstance(told, Failure | int):
                until = min(until, time.monotonic() + GRACE_SECONDS)
    return ends


def _judged(ranks: list[BaseProcess], ends: dict[BaseProcess, Any]) -> Any:
    for process, end in ends.items():
        if isinstance(end, int):  # what the others say then follows from it
            raise FailedElsewhere(_lost(process, end, len(ranks)))
    for end in ends.values():
        if isinstance(end, Failure):
            raise FailedElsewhere(end)
    for end in ends.values():
        if isinstance(end, Interrupted):
            raise end
    return ends[ranks[0]]


def _lost(process: BaseProcess, code: int, count: int) -> Failure:
    why = " (as the system does where memory runs out)" if code == -signal.SIGKILL else ""
    told = f"{process.name} of {count} processes {ended(code)}{why}"
    return Failure("environment", f"{told}; the same command goes on from the checkpoint", "")


def _rank(work: Work[Result], channel: Connection, rank: int, count: int, port: int, threads: int) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)

    def do() -> Result:
        _join(rank, count, port, threads)
        if rank == 0:
            return work(Listener(lambda curve: channel.send(curve.last), channel.poll))
        return work(Listener())

    try:
        end: Any = attempt(do)
    except Interrupted as interrupted:
        end = interrupted
    channel.send(end if rank == 0 or isinstance(end, (Failure, Interrupted)) else None)
    if not isinstance(end, Failure):
        distributed.destroy_process_group()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _join(rank: int, count: int, port: int, threads: int) -> None:
    """Meet the others, in what accelerate looks at too."""
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    own |= {"OMP_NUM_THREADS": threads}
    os.environ.update({name: str(value) for name, value in own.items()})
    store = distributed.TCPStore(HOST, port, is_master=False)
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(rank)
    distributed.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=rank, world_size=count, timeout=PATIENCE
    )
