"""Checks in several processes that share the device: one spends most of its time on imports and launches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from queue import Empty, Queue
from threading import Thread
from typing import IO

import psutil

from rankbench.bench.cpu.memory import free
from rankbench.bench.gpu import right
from rankbench.bench.gpu.verdict import Verdict
from rankbench.bench.processes import ended

CORES = 2
"""Of a process: its own, and that of the one which does the same on the processor."""
MEMORY = 4 * 1024**3
"""Bytes of main memory, likewise: PyTorch's CUDA libraries and a context, and PyTorch alone."""
MOST = 10
POLL_SECONDS = 0.5


def processes() -> int:
    """As many as there are cores and main memory for, a container's limit included; at most ten, for the
    card's memory."""
    cores = psutil.cpu_count(logical=False) or 1
    if sys.platform == "linux":
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, min(MOST, cores // CORES, free() // MEMORY))


def verdicts(checks: Sequence[str], stopped: Callable[[], bool], count: int) -> Iterator[Verdict]:
    """As `right.verdicts`, as they are found, of so many processes. What one of them has left, since it ended
    sooner, is wrong."""
    if count == 1:
        yield from right.verdicts(checks, stopped)
        return
    found: Queue[tuple[int, str]] = Queue()
    left = [list(checks[each::count]) for each in range(min(count, len(checks)))]
    with ExitStack() as stack:
        started = []
        for each, part in enumerate(left):
            process = stack.enter_context(_started(part))
            stack.callback(_end, process)
            started.append(process)
            assert process.stdout is not None
            Thread(target=_read, args=(each, process.stdout, found), daemon=True).start()
        reading = len(started)
        while reading:
            try:
                each, line = found.get(timeout=POLL_SECONDS)
            except Empty:
                if stopped():
                    return
                continue
            if line:
                yield Verdict(**json.loads(line))
                del left[each][0]
                continue
            reading -= 1
            why = f"its process {ended(started[each].wait())}"
            yield from (Verdict(check, faults=[why]) for check in left[each])


def _started(checks: Sequence[str]) -> subprocess.Popen[str]:
    """In a session of its own, out of Ctrl-C's reach."""
    command = [sys.executable, "-m", right.__name__, *checks]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def _end(process: subprocess.Popen[str]) -> None:
    """It, and what it has started; one that was waited for has ended what it had."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # it has ended: the second is macOS's answer
            os.killpg(process.pid, signal.SIGKILL)


def _read(each: int, lines: IO[str], found: Queue[tuple[int, str]]) -> None:
    """Its lines, and an empty one at their end."""
    for line in lines:
        found.put((each, line))
    found.put((each, ""))
