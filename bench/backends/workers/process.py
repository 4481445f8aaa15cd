"""A worker of this machine as its driver sees it: a process, a channel, and a voice that is passed on."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from rankbench.bench.backends.seam import Result
from rankbench.bench.backends.workers.shares import Share
from rankbench.bench.backends.workers.worker import GONE, work
from rankbench.bench.processes import packed, start, unpacked
from rankbench.bench.records import Curve
from rankbench.bench.run.runner import Listener, Order

WORDS = 4000
"""Characters of what a worker printed last that are kept."""


@dataclass
class Voice:
    """What a worker prints, passed on line by line."""

    end: Connection
    last_words: str = ""
    _line: str = ""
    """Begun and not ended."""

    def pass_on(self, known: set[str]) -> None:
        """Print what is new, but for lines that are `known`; add them."""
        while self.end.poll() and (heard := os.read(self.end.fileno(), 2**16)):
            text = heard.decode(errors="replace")
            self.last_words = (self.last_words + text)[-WORDS:]
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                if line.strip() and line not in known:
                    known.add(line)
                    tqdm.write(line.rsplit("\r")[-1], file=sys.stderr)


class Worker:
    """Forked from the nursery; where it has a GPU, started anew with its share in its environment, before
    anything is imported that reads it there."""

    order: Order
    """The last one that it was given."""
    listener: Listener

    def __init__(self, share: Share) -> None:
        context: Any = multiprocessing.get_context("spawn" if share.gpus else "forkserver")
        self.share = share
        self.channel, theirs = context.Pipe()
        heard, mouth = context.Pipe(duplex=False)
        self.voice = Voice(heard)
        with _environment(share.environment):
            arguments = packed(work), theirs, mouth, share
            self.process: BaseProcess = context.Process(target=unpacked, args=arguments)
            start(self.process)
        theirs.close()
        mouth.close()

    def begin(self, order: Order, listener: Listener) -> None:
        """Give it a run. Should it have died, `hear` says so."""
        self.order, self.listener = order, listener
        self._send(order)

    def stop(self) -> None:
        """Let it save its state and end, or end where it does nothing."""
        self._send(None)

    def _send(self, what: Order | None) -> None:
        with suppress(*GONE):
            self.channel.send(what)

    def hear(self) -> Curve | Result | None:
        """A step of its run or the end of it, waiting for one; None where it has died."""
        try:
            told: Curve | Result = self.channel.recv()
        except GONE:
            return None
        return told

    def bury(self, known: set[str]) -> int:
        """Wait for its end; the exit code, which is negative for a signal. What it says until then is passed
        on (`known` as the voice has it): with nobody to take it, it could not end."""
        ends = [self.channel, self.voice.end]
        while self.channel not in wait(ends) or self.hear() is not None:  # its own end, not the nursery's
            self.voice.pass_on(known)
        self.channel.close()
        self.process.join()
        self.voice.pass_on(known)
        self.voice.end.close()
        return self.process.exitcode or 0


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """With these variables set, for a process that is started meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
