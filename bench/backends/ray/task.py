"""The far end of the Ray backend: a task does one order, on whichever node has room for it."""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any

import ray
import torch

from rankbench.bench.backends.far import Unfit, code, do_far
from rankbench.bench.backends.seam import Result
from rankbench.bench.backends.workers.worker import sparsely
from rankbench.bench.records import Curve
from rankbench.bench.run.failures import Interrupted
from rankbench.bench.run.runner import Listener, Order


def do(same_code: str, packed: bytes, threads: int, gpus: int, board: Any) -> Result | Unfit | None:
    """Do the order that is `packed`; None where it was stopped, with its state saved.

    By SIGTERM, as nodes are emptied, the state is saved too, and the worker ends so that Ray does the task
    again elsewhere.
    """
    if same_code != code():
        return Unfit("has another version of rankbench than the driver; install the same on every node")
    if not gpus:  # of what the driver resolved as a run without one
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(threads)
    order: Order = pickle.loads(packed)
    told = _Told(order.job.cell, board)
    before = signal.signal(signal.SIGTERM, told.terminate)
    try:
        return do_far(order, Listener(sparsely(told.tell), lambda: told.asked or told.terminated))
    except Interrupted:
        if told.terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        return None
    finally:
        signal.signal(signal.SIGTERM, before)


class _Told:
    """What a run has been told: by its driver, and by its node."""

    asked = terminated = False

    def __init__(self, cell: str, board: Any) -> None:
        self._cell, self._board = cell, board
        self._answers: list[ray.ObjectRef] = []

    def tell(self, curve: Curve) -> None:
        """The driver hears of steps, and says whether to stop: its answer is heard with later ones."""
        count = len(self._answers)
        heard, waiting = ray.wait(self._answers, num_returns=count, timeout=0) if count else ([], [])
        self.asked = self.asked or any(ray.get(heard))
        self._answers = [*waiting, self._board.tell.remote(self._cell, curve)]

    def terminate(self, *_: object) -> None:
        self.terminated = True
