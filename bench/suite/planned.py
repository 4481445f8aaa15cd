"""The single runs that a suite is unrolled into."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rankbench import tasks
from rankbench.bench.plugins import Plugin
from rankbench.bench.records.block import DEFAULT_BASELINE
from rankbench.bench.suite import plugged
from rankbench.bench.suite.blocks import AdapterSpec, ConfigError, Model, Training
from rankbench.bench.suite.schema import Suite
from rankbench.bench.suite.staged import all_of


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
    scored_on: tasks.Split = Field(default="test", exclude_if=lambda split: split == "test")
    """Trials are scored on the selection split, and never look at a test item."""
    baseline: str = Field(default=DEFAULT_BASELINE, exclude=True)
    """The suite's; nothing of the run depends on it."""
    save: bool = Field(default=False, exclude=True)
    """Whether the trained adapter is kept; nothing of the run depends on it."""
    stages: tuple[int, ...] = Field(default=(), exclude=True)
    """Numbers of seeds of its cell after which is judged; nothing of the run depends on them."""
    plugins: tuple[Plugin, ...] = Field(default=(), exclude=True)
    """Those that it uses. Their hashes are in its identity, and they go wherever it is done."""

    @property
    def cell(self) -> str:
        """The run's name: EXPERIMENT--LABEL--sSEED."""
        return f"{self.experiment}--{self.label}--s{self.seed}"

    @property
    def entry(self) -> str:
        """The label; of a trial the method's, whose size and time what was drawn changes little."""
        return self.label if self.scored_on == "test" else self.adapter.method

    @property
    def is_sure(self) -> bool:
        """Whether it is done whatever others show."""
        return not self.stages or self.seed < self.stages[0]


def plan(suite: Suite, *, only: str | None = None, seeds: int | None = None) -> Iterator[RunSpec]:
    """All runs of a suite, those too that it may turn out not to need, seeds outermost so that every cell has
    a first result early.

    `only`: glob over cells; `seeds`: N, for the seeds 0 … N-1. Raises ConfigError where one of these is that
    of an experiment's trials.
    """
    for name, experiment in suite.experiments.items():
        if seeds is not None and experiment.tune and experiment.tune.seed < seeds:
            raise ConfigError(
                f"--seeds {seeds}: seed {experiment.tune.seed} is that of the trials of {name}, and no final "
                "run may have it; ask for fewer, or give its `tune` block another"
            )
    chosen = {
        name: range(seeds) if seeds is not None else all_of(experiment.seeds or suite.seeds)
        for name, experiment in suite.experiments.items()
    }
    for position in range(max((len(values) for values in chosen.values()), default=0)):
        for name, experiment in suite.experiments.items():
            if position >= len(chosen[name]):
                continue
            task = tasks.create(**experiment.task) if suite.plugins else None
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
                    save=suite.save is not None,
                    stages=suite.stages[name],
                    plugins=plugged.used(plugged.named([spec.name], experiment.task["name"], task)),
                )
                if only is None or fnmatch.fnmatch(run.cell, only):
                    yield run
