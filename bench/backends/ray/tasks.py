"""What a driver has a Ray cluster do: as much as it has room for."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rankbench.bench.backends.far import Unfit, code
from rankbench.bench.backends.lost import DEATHS
from rankbench.bench.backends.ray.board import Board
from rankbench.bench.backends.ray.task import do
from rankbench.bench.backends.seam import Result, Results
from rankbench.bench.cost.resources import resources_of
from rankbench.bench.processes import packed, unpacked
from rankbench.bench.run.failures import ADVICE, Failure, Interrupted, attempt
from rankbench.bench.run.order import POLL_SECONDS, Listener, Order
from rankbench.bench.suite import ConfigError

Needs = dict[str, float]
"""Cores ("CPU"), GPUs ("GPU") and bytes ("memory"), by Ray's names."""


@dataclass
class _Task:
    order: Order
    listener: Listener
    needs: Needs


@dataclass
class Tasks:
    """What a driver has the cluster do."""

    listen: Callable[[Order], Listener]
    threads: int
    """Of each process of a run."""
    under_way: dict[ObjectRef, _Task] = field(default_factory=dict)
    """Or waiting for a node."""
    _board: Any = None

    def results(self, orders: Iterator[Order]) -> Results:
        """As they come. Raises Interrupted when all have ended, where they were asked to; ConfigError where a
        node cannot do runs."""
        asked = False
        while True:
            try:
                while not asked and self.has_room() and (order := next(orders, None)):
                    if failure := self.begin(order):
                        yield order, failure
                if not asked and any(task.listener.stopped() for task in self.under_way.values()):
                    raise Interrupted
            except Interrupted:
                asked = True
                self.stop()
            if not self.under_way:
                break
            for ended in self.ended():
                task = self.under_way.pop(ended)
                if (result := result_of(ended)) is not None:
                    yield task.order, result
        if asked:
            raise Interrupted

    def has_room(self) -> bool:
        """Whether what was handed out leaves something of every kind that the cluster has, as it is now."""
        there = ray.cluster_resources()
        given = [task.needs for task in self.under_way.values()]
        return all(
            sum(needs[kind] for needs in given) < there.get(kind, 0.0) for kind in (given[0] if given else ())
        )

    def begin(self, order: Order) -> Failure | None:
        """Hand it to the cluster; why it is not, where no node can hold it."""
        needs = attempt(partial(self._needs, order))
        if isinstance(needs, Failure):
            return needs
        if not any(_fits(needs, node["Resources"]) for node in ray.nodes() if node["Alive"]):
            asked = ", ".join(f"{kind} {amount:g}" for kind, amount in needs.items())
            reason = f"no node of the Ray cluster is large enough for it: it asks for {asked}"
            return Failure("refused", reason, "")
        gpus = int(needs.get("GPU", 0))
        task = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=gpus,
            memory=needs["memory"],
            max_calls=min(gpus, 1),  # a process that has used a GPU stays with that one
            max_retries=DEATHS - 1,  # of a node or a worker: what a run itself raises is a Failure
        )(unpacked).options(name=order.job.cell)
        threads = int(needs["CPU"])  # which a run of several processes shares out between them
        reference = task.remote(packed(do), code(), pickle.dumps(order), threads, gpus, self.board)
        self.under_way[reference] = _Task(order, self.listen(order), needs)
        return None

    def _needs(self, order: Order) -> Needs:
        wanted = resources_of(order.job.spec)
        needs: Needs = {"CPU": wanted.cpus * self.threads, "memory": wanted.memory}
        return needs | ({"GPU": wanted.gpus} if order.job.identity["device"] == "cuda" else {})

    @property
    def board(self) -> Any:
        """On the driver's node: it lives as long as the driver."""
        if self._board is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        return self._board

    def ended(self) -> list[ObjectRef]:
        """Those tasks that have, soon, and perhaps none; what the others tell is passed on."""
        ended, _ = ray.wait(list(self.under_way), timeout=POLL_SECONDS)
        news = ray.get(self.board.news.remote())
        for task in self.under_way.values():
            for curve in news.get(task.order.job.cell, []):
                task.listener.tick(curve)
        return ended

    def stop(self) -> None:
        """Let all end after their step, with their state saved."""
        if self.under_way:
            self.board.stop.remote()

    def kill(self) -> None:
        """End them at once."""
        for reference in self.under_way:
            ray.cancel(reference, force=True)
        self.under_way.clear()

    def dismiss(self) -> None:
        """Let them end, and wait for it."""
        if not self.under_way:
            return
        self.stop()
        try:
            ray.wait(list(self.under_way), num_returns=len(self.under_way))
        except KeyboardInterrupt:
            self.kill()
            raise


def _fits(needs: Needs, resources: Needs) -> bool:
    return all(amount <= resources.get(kind, 0.0) for kind, amount in needs.items())


def result_of(ended: ObjectRef) -> Result | None:
    """None of a run that was stopped. Raises ConfigError where its node cannot do runs."""
    try:
        found: Result | Unfit | None = ray.get(ended)
    except RayTaskError as error:  # not the run: what is around it, such as a package that is not there
        last = str(error).strip().splitlines()[-1]
        raise ConfigError(f"a node of the Ray cluster cannot do runs: {last}") from error
    except RayError as error:  # where it was can no longer be asked
        first = " ".join(str(error).split()).partition(". ")[0]
        if isinstance(error, OutOfMemoryError):
            reason = f"out of memory: {first}; {ADVICE['memory']}"
            return Failure("memory", reason, str(error), provenance={})
        reason = f"its node or worker died {DEATHS} times: {first}; the same command tries again"
        return Failure("environment", reason, str(error), provenance={})
    if isinstance(found, Unfit):
        raise ConfigError(f"a node of the Ray cluster {found.reason}")
    return found
