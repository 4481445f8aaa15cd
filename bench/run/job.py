"""A run resolved, once: what identifies it, its configuration, its protocol. All else is handed this."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rankbench import tasks
from rankbench.bench import models
from rankbench.bench.records import LOOP_VERSION, SCHEMA_VERSION, Identity, fingerprint
from rankbench.bench.records.labels import rank_of
from rankbench.bench.run import provenance
from rankbench.bench.suite import RunSpec, plugged
from rankbench.bench.suite.described import described, held, learning_rate, scored_on, settings

SELECTION_RULES = {"last": "last step", "best": "best on the selection split"}


@dataclass(frozen=True)
class Job:
    """A run, resolved. It can be pickled, and is all that another process needs to do it."""

    spec: RunSpec
    identity: Identity
    """Everything that its numbers depend on; empty where the data are missing that it is made from."""
    config: dict[str, Any]
    """What its record says of how it was made, defaults too."""

    @property
    def cell(self) -> str:
        """The run's name."""
        return self.spec.cell

    @cached_property
    def fingerprint(self) -> str:
        """Of the identity; empty where there is none."""
        return fingerprint(self.identity) if self.identity else ""

    @property
    def place(self) -> dict[str, Any]:
        """Where the run stands in its suite, by the names of a record's fields."""
        spec = self.spec
        return {"suite": spec.suite, "task": spec.experiment, "adapter": spec.label, "seed": spec.seed}

    @property
    def told(self) -> dict[str, Any]:
        """What the suite says of the method, by the names of a record's fields; in no fingerprint."""
        adapter = self.spec.adapter
        return {
            "method": adapter.method or self.spec.label,
            "rank": rank_of(self.config["adapter"]),
            "point": adapter.point,
            "tuned": adapter.tuned,
            "chosen_by": list(adapter.chosen_by),
            "widened": adapter.widened,
            "baseline": self.spec.baseline,
            "stages": list(self.spec.stages),
        }

    def protocol(self, task: tasks.Task, prepared: tasks.Prepared) -> dict[str, Any]:
        """What two results must share to stand in one column; what an adapter is free to choose
        (its hyperparameters and learning rate) is not in it."""
        spec = self.spec
        return {
            "task": spec.task["name"],
            "model": spec.model.name,
            **({"scored": "unmerged, as trained", **narrow} if (narrow := held(spec)) else {}),
            **scored_on(spec),
            "targets": spec.targets,
            **task.protocol(),
            "sizes": prepared.sizes,
            "truncated": prepared.truncated,
            "dropped": prepared.dropped,
            "data": prepared.sha256,
            **spec.training.model_dump(exclude={"learning_rate", "observe"}),
            "batches": "random order, bucketed by length, what fills no last batch left out at random",
            "warm_start": "none" if spec.model.head == "fresh" else "the checkpoint's head",
            "selection_rule": SELECTION_RULES[spec.training.select],
            "loop_version": LOOP_VERSION,
            "task_version": task.version,
            **plugged.hashes(plugged.used(plugged.named([], spec.task["name"], task))),
        }


def resolve(spec: RunSpec, device: str | None = None) -> Job:
    """Reads a mirror's files and a folder's weights; downloads nothing. `device`, "cuda" or "cpu", of the
    machine that is to do it, where that is another one.

    Raises ConfigError for a model that has no identity, and the task's own errors for data that are not
    there.
    """
    task = make_task(spec)
    config = _configuration(spec) | {"task": task.fingerprint()}
    identity = {
        "schema": SCHEMA_VERSION,
        "loop": LOOP_VERSION,
        "software": provenance.versions()
        | models.libraries(spec.model)
        | plugged.packages(plugged.named([spec.adapter.name], spec.task["name"], task)),
        "device": device or provenance.device(),
        "weights": "task's own" if task.head.kind == "own" else models.identity(spec.model),
        **described(spec, config["task"]),
    }
    return Job(spec, identity, config)


def unresolved(spec: RunSpec) -> Job:
    """A run whose identity cannot be told, for the record of its failure."""
    return Job(spec, {}, _configuration(spec))


def _configuration(spec: RunSpec) -> dict[str, Any]:
    return spec.model_dump() | {
        "adapter": settings(spec),
        "learning_rate": learning_rate(spec),
        **plugged.hashes(spec.plugins),
    }


def make_task(spec: RunSpec) -> tasks.Task:
    """The run's task, with nothing loaded yet but the plug-ins of the run."""
    plugged.use(spec.plugins)
    return tasks.create(**spec.task)
