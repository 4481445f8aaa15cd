"""What becomes of a run whose worker died: it goes on from its checkpoint in another, twice at most."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from rankbench.bench.processes import ended
from rankbench.bench.records import FailureKind
from rankbench.bench.run.failures import ADVICE, Failure
from rankbench.bench.run.runner import Order

DEATHS = 3
"""Of the workers of one run, until it has failed."""

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
"""What a process does to itself, and does again."""


@dataclass(frozen=True)
class Death:
    """How a worker ended, to be read after "its worker"; which kind of failure it is, and the way out."""

    how: str
    kind: FailureKind
    way_out: str


def death(exit_code: int) -> Death:
    """Of a process, by Python's exit code: the number of a signal is negative."""
    how, number = ended(exit_code), -exit_code
    if exit_code >= 0:
        return Death(how, "error", "what it said last is kept as traceback")
    if number == signal.SIGKILL:
        advice = f"use fewer workers, {ADVICE['memory']}"
        return Death(how, "memory", f"as the system does when memory runs out: {advice}")
    if number in CRASHES:
        return Death(how, "error", "a library crashed; what it said last is kept as traceback")
    return Death(how, "environment", "the same command tries again")


@dataclass
class Losses:
    """How often each run has lost its worker."""

    _times: Counter[str] = field(default_factory=Counter)

    def add(self, order: Order, death: Death, last_words: str, provenance: dict[str, Any]) -> Failure | None:
        """Why the run has failed now; None where it is to be done once more, which is told on stderr.

        `provenance` of the worker, which can no longer tell it.
        """
        cell = order.job.cell
        self._times[cell] += 1
        if self._times[cell] < DEATHS:
            tqdm.write(f"{cell}: its worker {death.how}; another goes on with it", file=sys.stderr)
            return None
        reason = f"its worker {death.how}, {DEATHS} times; {death.way_out}"
        return Failure(death.kind, reason, last_words, provenance=provenance)
