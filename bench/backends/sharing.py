"""Missing runs, shared with whoever else does the same folder's: who does which, what is written and told.

A process takes the runs that no other holds, and waits at the end for what others still hold: where one of
them dies, its run is free again, and is gone on with from its checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from rankbench.bench.backends.seam import Backend, Result
from rankbench.bench.backends.standing import Missing, keep, take_over, version_of, why_missing
from rankbench.bench.console import FAILED, Progress
from rankbench.bench.records import Curve, FailureRecord, Folders
from rankbench.bench.records.files import claim
from rankbench.bench.run.failures import stop_if
from rankbench.bench.run.job import Job
from rankbench.bench.run.runner import Listener, Order
from rankbench.bench.track import Tracking
from rankbench.bench.track.kinds import Name as Tracker

POLL_SECONDS = 1.0
"""Between two looks at what other processes hold."""


@dataclass(frozen=True)
class Options:
    """How a suite is run."""

    with_overhead: bool = True
    checkpoint_seconds: float = 60.0
    retry_failed: bool = False
    """Try again what failed and would fail again, by its record."""
    keep_old_versions: bool = False
    """Take records as done that differ from the run in the versions of packages alone."""
    device: str | None = None
    """Of the machines that do the runs, "cuda" or "cpu", where they are not like this one."""
    track: Tracker | None = None
    """Where runs are followed."""


@dataclass
class Outcome:
    """How many runs ended how."""

    finished: int = 0
    skipped: int = 0
    failed: int = 0
    interrupted: bool = False


@dataclass
class _Orders(Iterator[Order]):
    """With how many there may be, for a backend that begins before it draws one (`operator.length_hint`)."""

    orders: Iterator[Order]
    count: int

    def __next__(self) -> Order:
        return next(self.orders)

    def __length_hint__(self) -> int:
        return self.count


@dataclass
class Sharing:
    """The missing runs of a folder, as far as they are this process's to do; and the tale of them."""

    folders: Folders
    options: Options
    backend: Backend
    stopped: Callable[[], bool]
    progress: Progress
    outcome: Outcome
    tracking: Tracking | None
    claims: dict[str, ExitStack] = field(default_factory=dict)
    """Of the runs that are under way."""

    def share(self, missing: Iterable[Missing], count: int) -> None:
        """Do the missing runs, so many, that are free, again and again, until there are none."""
        held = self._do_free(missing, count)
        waited_for: list[str] = []
        while held:
            cells = [one.job.cell for one in held]
            if cells != waited_for:
                self.progress.doing(f"waiting for what other processes do: {', '.join(cells)}")
                waited_for = cells
            else:
                time.sleep(POLL_SECONDS)
            held = self._do_free(held, len(held))

    def _do_free(self, missing: Iterable[Missing], count: int) -> list[Missing]:
        """Do what is free; what is not is returned."""
        held: list[Missing] = []
        try:
            orders = _Orders(self._orders(missing, held), count)
            with closing(self.backend(orders, self._listener)) as results:
                for order, result in results:
                    self.progress.end(self._ended(order.job, result), order.job.cell)
                    self.claims.pop(order.job.cell).close()
        finally:
            for mine in self.claims.values():
                mine.close()
            self.claims.clear()
            if self.tracking:
                self.tracking.close()
        return held

    def _orders(self, missing: Iterable[Missing], held: list[Missing]) -> Iterator[Order]:
        for one in missing:
            stop_if(self.stopped)
            cell = one.job.cell
            with ExitStack() as mine:
                if not mine.enter_context(claim(self.folders.claim(cell))):
                    held.append(one)
                    continue
                self.progress.begin(cell)
                if ended := self._ended_already(one):
                    self.progress.end(ended, cell, found=True)
                    continue
                self.claims[cell] = mine.pop_all()
            yield Order(
                one.job,
                self.folders.checkpoint(cell).absolute(),  # who does it may be in another folder
                self.options.checkpoint_seconds,
                self.folders.checkpoint_url(cell),
            )

    def _listener(self, order: Order) -> Listener:
        spec = order.job.spec

        def tick(curve: Curve) -> None:
            self.progress.tick(spec.cell, curve, spec.training.steps)
            if self.tracking:
                self.tracking.tick(order.job, curve)

        return Listener(tick, self.stopped)

    def _ended_already(self, one: Missing) -> str | None:
        """How a run that this process holds has ended, where there is nothing to be done."""
        job, kept = one.job, self.options.keep_old_versions
        if job.identity and why_missing(job, self.folders, kept) is None:
            self.outcome.skipped += 1
            return "done by another process"
        if version_of(self.folders.failure(job.cell)) not in (None, one.failure):
            self.outcome.failed += 1
            return f"{FAILED} in another process"
        if one.refused:
            return self._ended(job, one.refused)
        if other := take_over(job, self.folders, kept):
            self.outcome.skipped += 1
            return f"taken over from {other}"
        return None

    def _ended(self, job: Job, result: Result) -> str:
        """Write how a run ended, and say it."""
        record = keep(job, result, self.folders)
        if self.tracking:
            self.tracking.end(job, record)
        if isinstance(record, FailureRecord):
            self.outcome.failed += 1
            at = "" if record.step is None else f" at step {record.step}"
            return f"{FAILED}, {record.reason}{at}"
        self.outcome.finished += 1
        score = record.metrics.best[record.metrics.main]
        return f"{record.metrics.main} {score:.4f} in {record.timings.total:.0f} s"
