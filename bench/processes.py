"""How processes of our own are started, and how they ended."""

from __future__ import annotations

import gc
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any


def packed(work: Callable[..., Any]) -> bytes:
    """For `unpacked`, in another process: a function that is imported by name."""
    return pickle.dumps(work)


def unpacked(work: bytes, *arguments: Any) -> Any:
    """What a packed function returns, in a process that has imported nothing yet.

    Importing leaves little garbage: looking for it meanwhile takes a quarter of the time, and later, too,
    what is imported is left out.
    """
    gc.disable()
    try:
        function = pickle.loads(work)
        gc.freeze()
    finally:
        gc.enable()
    return function(*arguments)


def start(process: BaseProcess, *also_deaf_to: signal.Signals) -> None:
    """Start it deaf to Ctrl-C, and to other signals: Slurm sends each to every process of a task."""
    with deaf(*also_deaf_to):
        process.start()


@contextmanager
def deaf(*also_to: signal.Signals) -> Iterator[None]:
    """What is started meanwhile never hears of Ctrl-C, which reaches every process of a terminal: ours
    decides what it means."""
    resource_tracker.ensure_running()  # it would be started with the process, and leave SIGINT unblocked
    kept = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *also_to})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, kept)


def ended(exit_code: int) -> str:
    """How a process did, by Python's exit code: the number of a signal is negative."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
