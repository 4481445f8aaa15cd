"""A run as a task of an array: what happens on the node."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import partial

import torch
from submitit.core.job_environment import JobEnvironment
from submitit.helpers import Checkpointable

from rankbench.bench.backends.seam import Result
from rankbench.bench.run.failures import Failure, Interrupted, attempt
from rankbench.bench.run.runner import Listener, Order, run
from rankbench.bench.run.start import differing

PREEMPTED = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]
"""By which Slurm says, as submitit asks it to, that the time is nearly up or the node wanted for another."""


@dataclass(frozen=True)
class Task(Checkpointable):
    """It returns what came of the run; None where it was asked to end, and has saved its state."""

    order: Order
    threads: int

    def __call__(self) -> Result | None:
        """After PREEMPTED the state is saved, and submitit has Slurm queue the task again: it comes back to
        here. After SIGTERM (`scancel`, or the first word of a preemption) what is next is the driver's."""
        asked: set[int] = set()
        queue_again = signal.getsignal(PREEMPTED)
        assert callable(queue_again), "submitit has set it"
        for number in (PREEMPTED, signal.SIGTERM):
            signal.signal(number, lambda number, _: asked.add(number))
        torch.set_num_threads(self.threads)
        found = attempt(partial(differing, self.order.job))
        if isinstance(found, Failure):
            return found
        if found:
            way_out = "use nodes whose device, packages and data are as planned"
            return Failure("refused", f"not planned for this node: {'; '.join(found)}; {way_out}", "")
        try:
            return run(self.order, Listener(stopped=lambda: bool(asked)))
        except Interrupted:
            if PREEMPTED in asked:
                queue_again(PREEMPTED, None)  # this process ends there
            return None
