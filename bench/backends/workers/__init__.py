"""Runs in several processes of this machine at once.

They live as long as there is work. One that dies takes nothing with it but the steps since its last
checkpoint; when the driver dies, they save their state and end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import wait

from rankbench.bench.backends import nursery
from rankbench.bench.backends.lost import Losses, death
from rankbench.bench.backends.seam import Backend, Results
from rankbench.bench.backends.workers.process import Worker
from rankbench.bench.backends.workers.shares import Share, shared_out
from rankbench.bench.records import Curve
from rankbench.bench.run.failures import Failure, Interrupted
from rankbench.bench.run.order import POLL_SECONDS, Listener, Order
from rankbench.bench.run.provenance import provenance


def workers(count: int, threads: int | None = None, *, share_gpus: bool = False) -> Backend:
    """A backend of `count` processes, `threads` each. Raises ConfigError as `shared_out` does."""
    shares = shared_out(count, threads, share_gpus=share_gpus)

    def backend(orders: Iterator[Order], listen: Callable[[Order], Listener]) -> Results:
        crew = _Crew(listen, list(shares))
        if not any(share.gpus for share in shares):
            nursery.begin()
        try:
            yield from crew.results(orders)
        except KeyboardInterrupt:
            crew.kill()
            raise
        finally:
            crew.dismiss()
            nursery.end()

    return backend


@dataclass
class _Crew:
    listen: Callable[[Order], Listener]
    free: list[Share]
    """Nobody has them."""
    idle: list[Worker] = field(default_factory=list)
    busy: list[Worker] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)
    said: set[str] = field(default_factory=set)
    """Lines that workers have printed: each is shown once."""
    asked: bool = False
    """To stop."""

    def results(self, orders: Iterator[Order]) -> Results:
        """As they come. Raises Interrupted when all have ended, where they were asked to."""
        while True:
            try:
                for order in islice(orders, self.room):
                    self.give(order)
                if any(worker.listener.stopped() for worker in self.busy):
                    self.stop()
            except Interrupted:
                self.stop()
            if not self.busy:
                break
            for worker in self.heard():
                told = worker.hear()
                if isinstance(told, Curve):
                    worker.listener.tick(told)
                    continue
                self.busy.remove(worker)
                if told is not None:
                    self.idle.append(worker)
                    yield worker.order, told
                elif failure := self.lost(worker):
                    yield worker.order, failure
        if self.asked:
            raise Interrupted

    @property
    def room(self) -> int:
        """How many orders can be begun."""
        return 0 if self.asked else len(self.free) + len(self.idle)

    def give(self, order: Order) -> None:
        """To one that has nothing to do, or is started for it."""
        worker = self.idle.pop() if self.idle else Worker(self.free.pop(0))
        self.busy.append(worker)
        worker.begin(order, self.listen(order))

    def heard(self) -> list[Worker]:
        """Those at work who have something to tell of it, or are dead; soon, and perhaps none."""
        ready = wait(
            [end for worker in self.busy for end in (worker.channel, worker.voice.end)], POLL_SECONDS
        )
        for worker in self.busy:
            worker.voice.pass_on(self.said)
        return [worker for worker in self.busy if worker.channel in ready]

    def lost(self, worker: Worker) -> Failure | None:
        """What comes of the run of a worker that ended: None where another goes on with it, now or at the
        next call."""
        if worker.listener.stopped():  # SIGTERM may have reached both
            self.stop()
        end, threads = death(worker.bury(self.said)), {"threads": worker.share.threads}
        self.free.append(worker.share)
        if self.asked:
            return None
        failure = self.losses.add(worker.order, end, worker.voice.last_words, provenance() | threads)
        if failure is None:
            self.give(worker.order)
        return failure

    def stop(self) -> None:
        """Let those at work save their state and end."""
        if not self.asked:
            self.asked = True
            for worker in self.busy:
                worker.stop()

    def kill(self) -> None:
        """End them at once."""
        for worker in (*self.busy, *self.idle):
            worker.process.kill()

    def dismiss(self) -> None:
        """Let them end, whoever is at work after saving its state, and wait for it."""
        for worker in (*self.busy, *self.idle):
            worker.stop()
        try:
            for worker in (*self.busy, *self.idle):
                worker.bury(self.said)
        except KeyboardInterrupt:
            self.kill()
            raise
