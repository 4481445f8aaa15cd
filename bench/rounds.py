"""Contenders side by side: interleaved rounds in one process for time, a fresh process each for memory."""

from __future__ import annotations

import gc
import multiprocessing
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from bench import measure
from bench.record import GrowthPoint, RecordError

WARM_UP = 2
"""Untimed rounds first. The second leaves every adapter past its zero start."""

PRELOADED = ["bench.step_cost", "bench.loop_cost", "transformers.trainer"]
"""Imported before any process whose memory is compared."""

Ask = Callable[[str], None]
"""Told what is being done; raises Interrupted when the user asked to stop."""

Step = Callable[[int], float]
"""One synchronised step of a contender, given the round's number; returns its seconds."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Measured:
    """What an overhead record takes from a measurement."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    growth: list[GrowthPoint] = field(default_factory=list)


def interleave(steps: Mapping[str, Step], rounds: int, ask: Ask) -> dict[str, list[float]]:
    """Contender -> seconds in each round after the warm-up."""
    turns = []
    for turn in range(WARM_UP + rounds):
        ask(f"round {turn + 1} of {WARM_UP + rounds}")
        turns.append(one_round(steps, turn))
    return timed_rounds(turns, steps)


def one_round(steps: Mapping[str, Step], turn: int) -> dict[str, float]:
    """One step of each contender, in an order drawn anew each round, so that none always follows
    the same neighbour."""
    order = random.Random(turn).sample(list(steps), len(steps))
    return {label: steps[label](turn) for label in order}


def timed_rounds(turns: Sequence[Mapping[str, float]], labels: Iterable[str]) -> dict[str, list[float]]:
    """Rounds as one list a contender, the warm-up left out."""
    return {label: [turn[label] for turn in turns[WARM_UP:]] for label in labels}


def timed(device: torch.device, work: Callable[[], Any]) -> float:
    """Seconds that the work takes, the device's queue drained before and after."""
    started = now(device)
    work()
    return now(device) - started


def now(device: torch.device) -> float:
    """The clock once the device has done what it was given, in seconds."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def peak_memory(
    settings: Settings,
    labels: Iterable[str],
    rehearse: Callable[[Settings, str], Callable[[], Any]],
    ask: Ask,
) -> dict[str, float]:
    """Contender -> MiB at the peak of a process that builds it and takes a few steps.

    `rehearse(settings, label)` builds a contender and returns the function that takes the steps; a
    child imports it by name. Raises RecordError if a process dies.
    """
    peaks = {}
    for label in labels:
        ask(f"peak memory of {label}")
        with apart(_peak, settings, label, rehearse) as receive:
            peaks[label] = receive()
    return peaks


def _peak(channel: Connection, settings: Any, label: str, rehearse: Any) -> None:
    steps = rehearse(settings, label)
    gc.collect()
    measure.reset_peak_memory()
    steps()
    memory = measure.peak_memory()
    channel.send(memory.peak_allocated if memory.peak_allocated is not None else memory.peak_resident)


@contextmanager
def apart(work: Callable[..., None], settings: Any, label: str, *more: Any) -> Iterator[Callable[..., Any]]:
    """Let `work(channel, settings, label, *more)`, imported by name, run in a process of its own.

    Yields a function that sends the process its argument, if it is given one, and returns what
    comes back. Raises RecordError if the process dies first.
    """
    # A server that has imported everything but started no thread: its children start at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe()
    child = context.Process(
        target=_begin, args=(torch.get_num_threads(), work, theirs, settings, label, *more)
    )
    child.start()
    theirs.close()

    def exchange(*message: Any) -> Any:
        try:
            for part in message:
                ours.send(part)
            return ours.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise RecordError(f"{label} could not be measured: its process died") from None

    try:
        yield exchange
    finally:
        ours.close()
        child.join()


def _begin(threads: int, work: Callable[..., None], channel: Connection, *arguments: Any) -> None:
    # Ctrl-C reaches every process of the terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    # The parent has hung up: there is nobody left to work for.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        work(channel, *arguments)
