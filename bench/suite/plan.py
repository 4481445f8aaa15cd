"""A suite unrolled into its single runs."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rankbench.bench.records.block import DEFAULT_BASELINE
from rankbench.bench.suite.blocks import AdapterSpec, Model, Training
from rankbench.bench.suite.schema import Suite


class RunSpec(BaseModel):
    """One run: a cell of a suite and a seed."""

    model_config = ConfigDict(frozen=True)

    suite: str
    experiment: str
    label: str
    seed: int
    task: dict[str, Any]
    model: Model
    targets: str | list[str]
    training: Training
    adapter: AdapterSpec
    baseline: str = Field(default=DEFAULT_BASELINE, exclude=True)
    """The suite's; nothing of the run depends on it."""

    @property
    def cell(self) -> str:
        """The run's name: EXPERIMENT--LABEL--sSEED."""
        return f"{self.experiment}--{self.label}--s{self.seed}"


def plan(suite: Suite, *, only: str | None = None, seeds: int | None = None) -> Iterator[RunSpec]:
    """All runs of a suite, seeds outermost so that every cell has a first result early.

    `only`: glob over cells; `seeds`: N, for the seeds 0 … N-1.
    """
    chosen = {
        name: list(range(seeds)) if seeds is not None else (experiment.seeds or suite.seeds)
        for name, experiment in suite.experiments.items()
    }
    for position in range(max((len(values) for values in chosen.values()), default=0)):
        for name, experiment in suite.experiments.items():
            if position >= len(chosen[name]):
                continue
            for label, spec in experiment.adapters.items():
                run = RunSpec(
                    suite=suite.name,
                    experiment=name,
                    label=label,
                    seed=chosen[name][position],
                    task=experiment.task,
                    model=experiment.model,
                    targets=experiment.targets,
                    training=experiment.training,
                    adapter=spec,
                    baseline=suite.baseline,
                )
                if only is None or fnmatch.fnmatch(run.cell, only):
                    yield run
