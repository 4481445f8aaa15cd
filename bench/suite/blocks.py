"""The blocks that suites are made of: model, training recipe, adapter and its comparison."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from rankbench import adapters
from rankbench.adapters.errors import nearest
from rankbench.bench.records.labels import entries


class ConfigError(ValueError):
    """A suite, experiment or option that cannot be used; the message names the way out."""


def check_name(kind: str, name: str) -> None:
    """Raise ValueError unless a name can be part of a file name everywhere."""
    if not re.fullmatch("[a-z0-9][a-z0-9._-]*", name):
        raise ValueError(
            f"{kind} {name!r}: use lower-case letters, digits, '-', '_', '.'; begin with a letter or digit"
        )


def refuse_switch(value: Any) -> Any:
    """Raises ValueError for true and false, where pydantic would read 1 and 0: YAML writes them as yes, on,
    no and off, too."""
    if isinstance(value, bool):
        raise ValueError(f"give a number, not {str(value).lower()}")
    return value


class Numbers(BaseModel):
    """Refuses true and false for numbers."""

    @field_validator("*", mode="before")
    @classmethod
    def _are_no_switches(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        return refuse_switch(value) if {int, float} & {kind, *get_args(kind)} else value


class Strict(Numbers):
    """Refuses infinite numbers, and unknown keys with the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in known:
                    raise ValueError(f"unknown key {key!r}{nearest(str(key), known)}")
        return data


Weights = Literal["float32", "bfloat16", "nf4"]


class Model(Strict):
    """A registered model (`bench.models`), a hub id, or a local folder."""

    name: str
    revision: str | None = None
    """Hub commit; required for hub models so that a run can be repeated."""
    head: Literal["fresh", "keep"] = "fresh"
    """Where the checkpoint has a classification head already: draw a new one from the run's seed, or
    train that one on, classes in its order."""
    weights: Weights = Field(default="float32", exclude_if=lambda weights: weights == "float32")
    """What the frozen ones are held in: "nf4" takes four bits for those of linear layers (bitsandbytes) and
    bfloat16 for the others. What is trained is in float32 whatever this says. Left out of what identifies a
    run where it says nothing."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @field_validator("name")
    @classmethod
    def _from_home(cls, name: str) -> str:
        return os.path.expanduser(name)  # as a table's path; no hub id begins with a tilde


Precision = Annotated[Literal["no", "bf16"], BeforeValidator(lambda given: "no" if given is False else given)]
"""YAML reads an unquoted `no` as false."""


class Training(Strict):
    """The recipe of the shared loop; the same for every adapter of an experiment but for the
    learning rate, which each adapter may set for itself."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    """Examples in a micro-batch."""
    accumulation: int = Field(default=1, gt=0)
    """Micro-batches in a step, over all processes."""
    learning_rate: float = Field(gt=0)
    """At the peak."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps with a rising learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    decay: Literal["matrices", "all"] = "matrices"
    """What weight decay acts on: all but biases and norms, as is usual, or all that is trained."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest gradient norm."""
    precision: Precision = "no"
    """Autocast; what is trained stays in float32, and frozen weights in what the model says."""
    gradient_checkpointing: bool = False
    observe: int = Field(default=0, ge=0)
    """How often, evenly spaced and at the end, ranks are measured, for `select: best` the selection score."""
    select: Literal["last", "best"] = "last"
    """Which weights count: the last, or the best of the observations on the selection split."""
    processes: int = Field(default=1, gt=0, exclude_if=lambda count: count == 1)
    """How many share each step's micro-batches, a GPU each where there are any. More than one is part of
    what identifies a run: each process draws a dropout of its own."""
    shard: bool = Field(default=False, exclude_if=lambda shard: not shard)
    """Each process holds a part of the frozen weights, not all: for models that fit on no single GPU."""

    @model_validator(mode="after")
    def _best_of_something(self) -> Training:
        if self.select == "best" and not self.observe:
            raise ValueError("select: best needs observations to choose from; set observe")
        return self

    @model_validator(mode="after")
    def _warmed_up(self) -> Training:
        if round(self.warmup * self.steps) >= self.steps:
            raise ValueError(
                f"warmup {self.warmup:g} takes all {self.steps} steps: the learning rate begins at 0 and "
                "does not come to its peak; lower warmup"
            )
        return self

    @model_validator(mode="after")
    def _shared_out(self) -> Training:
        if self.accumulation % self.processes:
            raise ValueError(
                f"accumulation {self.accumulation} is not divisible by {self.processes} processes"
            )
        if self.shard and self.processes == 1:
            raise ValueError("shard divides the weights among processes; set processes")
        return self


class AdapterSpec(Numbers):
    """A registered adapter and its hyperparameters."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: str
    learning_rate: float | None = Field(default=None, gt=0)
    """Overrides the experiment's."""
    tuned: bool = Field(default=False, exclude=True)
    """Whether its settings are what a sweep on other seeds chose for it: what the suite says of itself."""
    method: str = Field(default="", exclude=True)
    """The entry of the suite that it was made from."""
    point: dict[str, Any] = Field(default={}, exclude=True)
    """What the entry's grid gave it; of a trial what was drawn."""
    chosen_by: tuple[str, ...] = Field(default=(), exclude=True)
    """Fingerprints of the trials that chose that."""
    widened: int = Field(default=0, exclude=True)
    """Of a trial: how often ranges had grown when it was drawn."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The adapter's own keys."""
        return dict(self.model_extra or {})


class Adapters(Strict):
    """Shared validation for blocks that compare adapters on a model."""

    model: Model
    targets: str | list[str]
    adapters: dict[str, AdapterSpec] = Field(min_length=1)

    @field_validator("adapters", mode="before")
    @classmethod
    def _unfold(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        unfolded: dict[str, dict[str, Any]] = {}
        for name, given in data.items():
            for key, spec in entries(str(name), given):
                if key in unfolded:
                    raise ValueError(f"two adapters are labelled {key}; leave one out")
                unfolded[key] = spec
        return unfolded

    @property
    def steps_of_a_run(self) -> int:
        """Optimizer steps, which some adapters have to know."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        for name, spec in self.adapters.items():
            try:
                made = make_adapter(spec, learning_rate=spec.learning_rate or 1e-3, steps=self.steps_of_a_run)
            except adapters.AdapterError as error:
                raise _fault("adapters", name, why=error) from None
            check_name("adapter label", name)
            if why := made.why_not_over(self.model.weights):
                raise ValueError(f"adapter {name} over `weights: {self.model.weights}`: {why}")
        return self


def _fault(*place: str, why: Exception) -> ValidationError:
    """Of a key further in than the block that finds it."""
    told = PydanticCustomError("value_error", "{why}", {"why": str(why)})
    return ValidationError.from_exception_data(place[0], [InitErrorDetails(type=told, loc=place, input=None)])


def make_adapter(spec: AdapterSpec, *, learning_rate: float, steps: int) -> adapters.Adapter:
    """The adapter of a run. Those that depend on the run's peak learning rate or length get them.

    Raises AdapterError for hyperparameters that it refuses, and for a length that is not the run's.
    """
    known = adapters.hyperparameters(spec.name)
    run = {"learning_rate": learning_rate, "total_steps": steps}
    facts = {key: value for key, value in run.items() if key in known}
    given = spec.hyperparameters
    for key, value in facts.items():
        if key in given and given[key] != value:
            raise adapters.AdapterError(f"{key} {given[key]!r} is not the run's {value}; leave it out")
    return adapters.create(spec.name, **(given | facts))
