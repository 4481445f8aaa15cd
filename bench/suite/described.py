"""What a suite says of a run, as far as the run's numbers depend on it: without the machine, the packages
and the weights, which are found when it is done."""

from __future__ import annotations

from typing import Any

from rankbench import adapters
from rankbench.bench.suite import plugged
from rankbench.bench.suite.blocks import make_adapter
from rankbench.bench.suite.planned import RunSpec


def described(spec: RunSpec, task: dict[str, Any]) -> dict[str, Any]:
    """These parts of a run's identity. `task`: its task's fingerprint."""
    return {
        "task": task,
        "model": spec.model.name,
        "head": spec.model.head,
        **held(spec),
        "targets": spec.targets,
        "training": spec.training.model_dump(exclude={"learning_rate"}),
        "learning_rate": learning_rate(spec),
        "adapter": {"version": adapters.version(spec.adapter.name), **settings(spec)},
        "seed": spec.seed,
        **scored_on(spec),
        **plugged.hashes(spec.plugins),
    }


def held(spec: RunSpec) -> dict[str, str]:
    """How frozen weights are, where that is not in float32."""
    return {} if spec.model.weights == "float32" else {"weights_held_in": spec.model.weights}


def scored_on(spec: RunSpec) -> dict[str, str]:
    """On which split, where that is not the test split."""
    return {} if spec.scored_on == "test" else {"scored_on": spec.scored_on}


def adapter_of(spec: RunSpec) -> adapters.Adapter:
    """The run's adapter, not attached yet."""
    return make_adapter(spec.adapter, learning_rate=learning_rate(spec), steps=spec.training.steps)


def settings(spec: RunSpec) -> dict[str, Any]:
    """The adapter's registered name and hyperparameters, defaults too."""
    return {"name": spec.adapter.name, **adapter_of(spec).settings()}


def learning_rate(spec: RunSpec) -> float:
    """The peak learning rate: the adapter's own, or the experiment's."""
    return spec.adapter.learning_rate or spec.training.learning_rate
