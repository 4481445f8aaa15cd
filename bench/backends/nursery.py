"""A process that imports what all workers need, once, while their driver does the same: they are forked from
it, and start at once.

There is one at a time, Python's fork server. A worker with a GPU is not forked: CUDA does not survive it, and
a library may look for one as soon as it is imported.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from typing import Any

from rankbench.bench.processes import deaf

PRELOADED = "rankbench.bench.backends.workers.preloaded"


def expect(workers: int | None) -> None:
    """Begin if there may be workers, so many or as many as are fastest, and this process has to import as
    much itself: both do so side by side."""
    most = str(workers or os.environ.get("OMP_NUM_THREADS") or os.cpu_count())
    if most != "1" and "torch" not in sys.modules:
        begin()


def begin() -> None:
    """Start it, unless it is there; nobody waits until it has imported all."""
    multiprocessing.set_forkserver_preload([PRELOADED])
    with deaf():
        forkserver.ensure_running()


def end() -> None:
    """End it: another fork server, that of costs, is not to have imported what this one has."""
    server: Any = forkserver._forkserver
    server._stop()
