"""Contenders side by side: interleaved rounds in a fresh process for time, a process each for memory.

Rounds of one process share its memory layout, its threads and its hour, and agree with each other better
than with another process's. So all this is done in several processes, one after the other, and each counts
as one replicate (`bench.cost.overhead`). Those of the rounds are started anew, not forked from one that has
imported everything: forks share a layout.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from rankbench.bench.cost.use import Peak, peak_of
from rankbench.bench.plugins import Plugin
from rankbench.bench.processes import ended, start
from rankbench.bench.records import GrowthPoint, RecordError
from rankbench.bench.run.failures import FailedElsewhere, Failure, attempt
from rankbench.bench.suite import plugged
from rankbench.bench.suite.costs import WARM_UP

PRELOADED = ["rankbench.bench.cost.turns", "rankbench.bench.cost.loop", "transformers.trainer"]
"""Imported before any process whose memory is compared."""

HUNG_UP = (EOFError, BrokenPipeError, ConnectionResetError)
"""What a process sees of another one's end."""

Ask = Callable[[str], None]
"""Told what is being done; raises Interrupted when the user asked to stop."""

Step = Callable[[int], float]
"""One synchronised step of a contender, given the round's number; returns its seconds."""

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Measured:
    """What one process, or one of each contender, takes to an overhead record."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    growth: list[GrowthPoint] = field(default_factory=list)
    reserved: dict[str, float] = field(default_factory=dict)
    joules: dict[str, float] = field(default_factory=dict)

    def with_peaks(self, found: Mapping[str, Peak]) -> Measured:
        """And with what each contender's memory came to."""
        reserved = {label: peak.reserved for label, peak in found.items() if peak.reserved is not None}
        return replace(self, peaks={label: peak.used for label, peak in found.items()}, reserved=reserved)


def interleave(steps: Mapping[str, Step], rounds: int, ask: Ask, process: int = 0) -> dict[str, list[float]]:
    """Contender -> seconds in each round after the warm-up. Each process has orders of its own."""
    turns = []
    for turn in range(WARM_UP + rounds):
        ask(f"round {turn + 1} of {WARM_UP + rounds}")
        turns.append({label: steps[label](turn) for label in shuffled(steps, f"{process} {turn}")})
    return {label: [turn[label] for turn in turns[WARM_UP:]] for label in steps}


def shuffled(labels: Iterable[str], seed: str) -> list[str]:
    """In an order of chance, so that none always follows the same neighbour."""
    known = list(labels)
    return random.Random(seed).sample(known, len(known))


def peak_memory(
    settings: Settings,
    labels: Iterable[str],
    rehearse: Callable[[Settings, str], Callable[[], Any]],
    ask: Ask,
) -> dict[str, Peak]:
    """Contender -> the peak of a process that builds it and takes a few steps.

    `rehearse(settings, label)` builds a contender and returns the function that takes the steps; a
    child imports it by name. Raises as `apart` does.
    """
    peaks = {}
    for label in labels:
        ask(f"peak memory of {label}")
        with apart(_peak, settings, label, rehearse) as receive:
            peaks[label] = receive()
    return peaks


def _peak(channel: Connection, settings: Any, label: str, rehearse: Any) -> None:
    steps = rehearse(settings, label)
    channel.send(peak_of(steps)[1])


def in_fresh_process(
    work: Callable[[Settings, int, Ask], Measured], settings: Settings, process: int, ask: Ask
) -> Measured:
    """What `work(settings, process, ask)`, imported by name, returns in a process that starts anew.

    What it asks is asked here. Raises as `apart` does.
    """
    with apart(_relay, settings, f"process {process + 1}", work, process, anew=True) as receive:
        while isinstance(told := receive(), str):
            ask(told)
        measured: Measured = told
        return measured


def _relay(channel: Connection, settings: Any, _: str, work: Any, process: int) -> None:
    channel.send(work(settings, process, channel.send))


@contextmanager
def apart(
    work: Callable[..., None], settings: Any, label: str, *more: Any, anew: bool = False
) -> Iterator[Callable[..., Any]]:
    """Let `work(channel, settings, label, *more)`, imported by name, run in a process of its own.

    Yields a function that sends the process its argument, if it is given one, and returns what
    comes back. Raises FailedElsewhere with what went wrong in it, RecordError if it dies first.
    """
    # Otherwise a server that has imported everything but started no thread: its children start at once.
    # They could use no GPU: transformers looks for one when it is imported, and CUDA does not survive a fork.
    anew = anew or torch.cuda.is_available()
    context: Any = multiprocessing.get_context("spawn" if anew else "forkserver")
    if not anew:
        context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe()
    child = context.Process(
        target=_begin,
        args=(torch.get_num_threads(), plugged.active(), work, theirs, settings, label, *more),
    )
    start(child)
    theirs.close()

    def exchange(*message: Any) -> Any:
        try:
            for part in message:
                ours.send(part)
            told = ours.recv()
        except HUNG_UP:
            child.join()
            why = " (as the system does where memory runs out)" if child.exitcode == -signal.SIGKILL else ""
            told = f"{label} could not be measured: its process {ended(child.exitcode)}{why}"
            raise RecordError(told) from None
        if isinstance(told, Failure):
            raise FailedElsewhere(replace(told, reason=f"{label} could not be measured: {told.reason}"))
        return told

    try:
        yield exchange
    finally:
        ours.close()
        child.join()


def _begin(
    threads: int,
    plugins: Sequence[Plugin],
    work: Callable[..., None],
    channel: Connection,
    *arguments: Any,
) -> None:
    # A child of the server starts with the server's signals.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    with suppress(*HUNG_UP):  # then there is nobody left to work for

        def do() -> None:
            plugged.use(plugins)
            work(channel, *arguments)

        found = attempt(do, *HUNG_UP)
        if isinstance(found, Failure):
            channel.send(found)
