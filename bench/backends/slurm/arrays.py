"""Arrays of tasks: how they are submitted, found again by another driver, and taken away.

An array has a folder of its own for submitit's pickles and logs. Beside it lies a note for every run under
way: it says which task does the run, so that a driver that comes after a dead one waits for that task and
submits none. Whoever holds the run's claim owns its note.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from shutil import rmtree
from typing import Any

from pydantic import BaseModel
from submitit.core.core import Job, PicklingExecutor
from submitit.core.utils import FailedJobError

from rankbench.bench.backends.seam import Result
from rankbench.bench.backends.slurm import queue
from rankbench.bench.backends.slurm.task import Task
from rankbench.bench.cost.resources import resources_of
from rankbench.bench.records import read_record, write_record
from rankbench.bench.run.runner import Order
from rankbench.bench.suite import ConfigError
from rankbench.bench.suite.slurm import Slurm


class Note(BaseModel):
    """Which task does a run."""

    task: str
    array: str
    """Its folder's name."""
    fingerprint: str
    """The run's."""


@dataclass(frozen=True)
class Sent:
    """An order that a task was submitted for."""

    order: Order
    task: Job[Result | None]


@dataclass(frozen=True)
class Arrays:
    """Those of a suite."""

    folder: Path
    settings: Slurm
    executor: type[PicklingExecutor]

    def send(self, orders: Sequence[Order]) -> list[Sent]:
        """As one array, where all need as many GPUs. Raises ConfigError where Slurm refuses it."""
        by_gpus = groupby(sorted(orders, key=self._gpus), key=self._gpus)
        return [sent for _, alike in by_gpus for sent in self._send(list(alike))]

    def find(self, order: Order) -> Sent | None:
        """The task that another driver has submitted for this very run; one for what it was before ends.

        Raises RecordError for a corrupt note.
        """
        if not self._note(order).exists():
            return None
        note = read_record(self._note(order), Note)
        sent = Sent(order, self.executor.job_class(self.folder / note.array, note.task))
        if note.fingerprint == order.job.fingerprint:
            return sent
        queue.end([note.task])
        self.forget(sent)
        return None

    def forget(self, sent: Sent) -> None:
        """Remove what a task has left; with the last one, its array's folder."""
        self._note(sent.order).unlink(missing_ok=True)
        left = sent.task.paths
        for path in (left.submitted_pickle, left.result_pickle, left.stdout, left.stderr):
            path.unlink(missing_ok=True)
        if not any(left.folder.glob("*_submitted.pkl")):
            rmtree(left.folder, ignore_errors=True)
        with suppress(OSError):  # other arrays lie there
            self.folder.rmdir()

    def _send(self, orders: Sequence[Order]) -> list[Sent]:
        options = self._options(orders)
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="array-", dir=self.folder))
        executor = self.executor(folder, max_num_timeout=self.settings.timeouts)
        executor.update_parameters(**options)
        work = [Task(order, options["cpus_per_task"]) for order in orders]
        try:
            with redirect_stderr(io.StringIO()):  # where submitit says what it raises
                tasks = executor.submit_array(work)
        except FailedJobError as error:
            rmtree(folder)
            raise ConfigError(f"--backend slurm: {' '.join(str(error).split())}") from None
        sent = [Sent(*pair) for pair in zip(orders, tasks, strict=True)]
        try:
            for one in sent:
                job, task = one.order.job, one.task.job_id
                note = Note(task=task, array=folder.name, fingerprint=job.fingerprint)
                write_record(self._note(one.order), note)
        except BaseException:  # also a second Ctrl-C: nobody would know of them
            queue.end([one.task.job_id for one in sent])
            raise
        return sent

    def _note(self, order: Order) -> Path:
        return self.folder / f"{order.job.cell}.json"

    def _gpus(self, order: Order) -> int:
        if self.settings.gpus is not None:
            return self.settings.gpus
        has_one = order.job.identity["device"] == "cuda"
        return resources_of(order.job.spec).gpus if has_one else 0

    def _options(self, orders: Sequence[Order]) -> dict[str, Any]:
        """Of sbatch, as submitit calls them: what is enough for each of the orders."""
        settings = self.settings
        needs = [resources_of(order.job.spec) for order in orders]
        cpus = settings.cpus or max(need.cpus for need in needs)
        mebibytes = 1024 * settings.memory if settings.memory else max(need.memory for need in needs) / 2**20
        found = {
            "job_name": f"rankbench-{orders[0].job.spec.suite}",
            "partition": settings.partition,
            "account": settings.account,
            "time": settings.time,
            "signal_delay_s": settings.signal_delay,
            "cpus_per_task": cpus,
            "gpus_per_node": self._gpus(orders[0]) or None,
            "mem": f"{math.ceil(mebibytes)}M",
            "array_parallelism": settings.array_parallelism,
            "setup": settings.setup or None,
            # Since Slurm 22.05 a step no longer takes it from its job.
            "srun_args": [f"--cpus-per-task={cpus}"],
            "additional_parameters": {"requeue": True, **settings.sbatch},
        }
        return {name: value for name, value in found.items() if value is not None}
