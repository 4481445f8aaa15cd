"""What a suite file may say, checked before anything runs.

A suite is a YAML file: experiments (a task, a model, a training recipe and the adapters to compare)
and measurements of cost.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator
from typing_extensions import override

from rankbench import adapters as registered
from rankbench import tasks
from rankbench.adapters.errors import nearest
from rankbench.bench.plugins import Plugin
from rankbench.bench.records.block import DEFAULT_BASELINE
from rankbench.bench.suite import plugged
from rankbench.bench.suite.blocks import Adapters, Strict, Training, check_name
from rankbench.bench.suite.costs import Cost, Growth
from rankbench.bench.suite.slurm import Slurm
from rankbench.bench.suite.staged import Seeds, all_of, stages_of
from rankbench.bench.suite.tuning import Tune, check_tuning, trials_of


class Experiment(Adapters):
    """One task and model, several adapters."""

    task: dict[str, Any]
    """`name` and the task's options."""
    training: Training
    seeds: Seeds | None = None
    """Overrides the suite's."""
    tune: Tune | None = Field(default=None, exclude_if=lambda tune: tune is None)
    """How what its entries leave open is chosen before the runs."""

    @property
    def steps_of_a_run(self) -> int:
        """The recipe's steps."""
        return self.training.steps

    @model_validator(mode="after")
    def _can_be_held(self) -> Experiment:
        weights = self.model.weights
        if weights != "float32" and tasks.create(**self.task).head.kind == "own":
            raise ValueError(f"{self.task['name']} has a model of its own, in float32; leave `weights` out")
        if weights == "nf4" and self.training.shard:
            raise ValueError(
                "weights in four bits cannot be cut among processes; take bfloat16 or leave shard out"
            )
        return self

    @model_validator(mode="after")
    def _can_be_shared(self) -> Experiment:
        for name, spec in self.adapters.items():
            why = registered.kind(spec.name).one_process
            if why and self.training.processes > 1:
                raise ValueError(f"adapter {name} {why}; leave it or training's processes out")
        return self

    @model_validator(mode="after")
    def _can_be_tuned(self) -> Experiment:
        if self.tune:
            check_tuning(self.adapters, self.tune, self.training.steps)
        return self

    @field_validator("task", mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @field_validator("task")
    @classmethod
    def _known_task(cls, options: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(options.get("name"), str):
            raise ValueError("a task needs a name")
        tasks.create(**options)
        return options


class Suite(Strict):
    """A suite file."""

    name: str
    description: str = ""
    seeds: Seeds = Field(default=[0, 1, 2])
    plugins: tuple[Plugin, ...] = Field(default=[], validate_default=True)
    """Python files, by their paths from the suite's folder, whose adapters, tasks and metrics the fields
    below may name; read before them."""
    experiments: dict[str, Experiment]
    overhead: dict[str, Cost] = Field(default={})
    baseline: str = DEFAULT_BASELINE
    """The entry that the others are set beside in the report: its label, without the point of a grid."""
    save: Literal["adapter"] | None = None
    """What a run leaves besides its record and predictions: with "adapter", what it trained. Nothing of it
    depends on that."""
    slurm: Slurm = Field(default=Slurm())
    """How runs are done on a Slurm cluster; nothing of them depends on it."""

    _choices: Path | None = PrivateAttr(default=None)

    @override
    def model_post_init(self, context: Any) -> None:
        self._choices = (context or {}).get("choices")

    @property
    def choices(self) -> Path | None:
        """Where choices would lie that come with the suite's file; None where there is no file."""
        return self._choices

    @property
    def methods(self) -> list[str]:
        """The entries of all experiments and measurements, their grids not unfolded, each once."""
        blocks = (*self.experiments.values(), *self.overhead.values())
        named = [
            one.method for each in blocks if isinstance(each, Adapters) for one in each.adapters.values()
        ]
        grown = [name for each in blocks if isinstance(each, Growth) for name in each.adapters]
        return list(dict.fromkeys([*named, *grown]))

    @property
    def stages(self) -> dict[str, tuple[int, ...]]:
        """Experiment -> numbers of seeds after which its claims are judged; none where seeds are listed."""
        return {name: stages_of(one.seeds or self.seeds) for name, one in self.experiments.items()}

    @field_validator("plugins", mode="before")
    @classmethod
    def _read(cls, paths: Any, info: ValidationInfo) -> tuple[Plugin, ...]:
        folder: Path = (info.context or {}).get("folder", Path())
        return plugged.read_all(paths, folder)

    @model_validator(mode="after")
    def _baseline_is_an_entry(self) -> Suite:
        if "baseline" in self.model_fields_set and self.baseline not in self.methods:
            near = nearest(self.baseline, self.methods)
            raise ValueError(f"baseline: no entry is called {self.baseline!r}{near}")
        return self

    @model_validator(mode="after")
    def _names_are_file_names(self) -> Suite:
        check_name("suite", self.name)
        for name in (*self.experiments, *self.overhead):
            check_name("experiment", name)
        for name in self.experiments:
            if "--" in name:
                raise ValueError(
                    f"experiment {name!r}: '--' parts a run's name, and two runs could have one; take one '-'"
                )
        return self

    @model_validator(mode="after")
    def _trials_are_apart(self) -> Suite:
        for name, experiment in self.experiments.items():
            if not (tune := experiment.tune):
                continue
            if trials_of(name) in self.experiments:
                raise ValueError(f"{trials_of(name)} is what the trials of {name} are called; rename it")
            if tune.seed in all_of(experiment.seeds or self.seeds):
                raise ValueError(
                    f"{name}: tune: seed {tune.seed} is one of the final runs'; trials need one of their own"
                )
        return self

    @model_validator(mode="after")
    def _does_something(self) -> Suite:
        if not (self.experiments or self.overhead):
            raise ValueError("nothing to do; name an experiment or a measurement of overhead")
        return self
