"""The record of one run: what it was, what it reached, how it went there and what it took; and of what
ended without a result."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rankbench.bench.records.block import DEFAULT_BASELINE, SCHEMA_VERSION, Block
from rankbench.bench.records.labels import told_by
from rankbench.bench.records.scores import Forgetting, MergeParity, Metrics

STEPS_OF_A_TRIAL = 50
"""That its record keeps of its curve: hundreds of trials choose a suite's settings, by their scores alone."""


class Curve(Block):
    """One entry a step, in order: task loss and penalty apart, seconds of the synchronised step. A trial's
    record has some of the steps."""

    step: list[int] = Field(default=[])
    loss: list[float] = Field(default=[])
    penalty: list[float] = Field(default=[])
    gradient_norm: list[float] = Field(default=[])
    learning_rate: list[float] = Field(default=[])
    seconds: list[float] = Field(default=[])

    @model_validator(mode="after")
    def _one_entry_a_step(self) -> Curve:
        if len({len(getattr(self, name)) for name in Curve.model_fields}) > 1:
            raise ValueError("its lists differ in length")
        return self

    def after(self, step: int) -> Curve:
        """Its steps that come after that one."""
        start = bisect_right(self.step, step)
        return Curve(**{name: getattr(self, name)[start:] for name in Curve.model_fields})

    def extend(self, other: Curve) -> None:
        """Go on with the steps of another one."""
        for name in Curve.model_fields:
            getattr(self, name).extend(getattr(other, name))

    @property
    def last(self) -> Curve:
        """Its last step alone."""
        return Curve(**{name: getattr(self, name)[-1:] for name in Curve.model_fields})

    def thinned(self, count: int) -> Curve:
        """At most so many of its steps, two or more, evenly spaced; the first and the last are among them."""
        if len(self.step) <= count:
            return self
        places = [i * (len(self.step) - 1) // (count - 1) for i in range(count)]
        return Curve(**{name: [getattr(self, name)[i] for i in places] for name in Curve.model_fields})


class Observation(Block):
    """What was measured between steps: after `step` optimizer steps."""

    step: int
    selection: float | None = None
    """The main metric on the selection split."""
    accumulated_rank: dict[str, int] = Field(default={})
    """Rank of (weight now - pretrained weight) per probed layer."""
    gradient_rank: dict[str, int] = Field(default={})
    """Rank of the gradient by the whole weight, on the first training batch, per probed layer."""
    one_position: list[str] = Field(default=[])
    """Probed layers of which one position an input reaches the loss, as a pooler's: their gradient's rank is
    at most the number of inputs, whatever the method."""

    @property
    def judged_gradient_rank(self) -> dict[str, int]:
        """Of the layers of which more than one position an input reaches the loss."""
        return {name: rank for name, rank in self.gradient_rank.items() if name not in self.one_position}


class Timings(Block):
    """Seconds. The median step leaves out the warm-up steps; hooks are inside it. Of a resumed run the
    total covers all legs, each up to its last checkpoint."""

    median_step: float
    train: float
    score: float
    total: float
    legs: int = 1
    """Processes that worked on the run, one after the other."""


class Memory(Block):
    """MiB at the peak of all legs of a run, in the first of its processes; the allocator's figures where
    the device has one."""

    peak_resident: float
    peak_allocated: float | None = None
    peak_reserved: float | None = None


class Parameters(Block):
    """`adapter` leaves out the task head; `trainable` counts it."""

    total: int
    trainable: int
    adapter: int


class Saved(Block):
    """The trained adapter as a file beside the record (`Folders.adapter`), in the state that `metrics.best`
    is of."""

    sha256: str
    bytes: int


class RunRecord(Block):
    """One run, one file: `runs/TASK--ADAPTER--SEED.json`."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    suite: str
    task: str
    """The experiment's name in the suite (often the task's own)."""
    adapter: str
    """The label of the adapter in the suite, for example "lora-r64": to be read, never parsed."""
    seed: int
    method: str = ""
    """The suite's entry that the run belongs to: its label, without the point of a grid."""
    rank: int | None = None
    """Of the adapter; None where it has none."""
    point: dict[str, Any] = Field(default={})
    """The values that a grid gave this run, by their keys; of a trial what was drawn."""
    tuned: bool = False
    """Whether the suite says that a sweep chose the method's settings, or its trials have."""
    chosen_by: list[str] = Field(default=[], exclude_if=lambda trials: not trials)
    """Fingerprints of the method's trials, where these chose its settings."""
    widened: int = Field(default=0, exclude_if=lambda times: not times)
    """Of a trial: how often ranges had grown when it was drawn."""
    baseline: str = DEFAULT_BASELINE
    """The suite's entry that its others are set beside. No number depends on it: `rankbench run` writes
    what the suite says now into the records that are there."""
    stages: list[int] = Field(default=[], exclude_if=lambda stages: not stages)
    """Numbers of seeds after which the suite's claims are judged, rising; empty where it lists its seeds. No
    number depends on them: `rankbench run` writes what the suite says now."""
    model: str
    fingerprint: str
    identity: dict[str, Any] = Field(default={})
    """What the fingerprint was made from, so that a difference can be named; empty before schema 2."""
    config: dict[str, Any]
    """The whole resolved configuration: task, model, training, adapter with hyperparameters."""
    protocol: dict[str, Any]
    """What must agree before two results share a column."""
    metrics: Metrics
    curve: Curve
    observations: list[Observation] = Field(default=[])
    timings: Timings
    memory: Memory
    parameters: Parameters
    layers: dict[str, int] = Field(default={})
    """Entry of the targets -> how many layers it names; empty in records of before this was kept."""
    heads: list[str] = Field(default=[])
    """Modules trained whole beside the adapter: what the checkpoint does not hold, or the kept head."""
    diagnostics: dict[str, Any]
    merge_parity: MergeParity | None = None
    forgetting: Forgetting | None = Field(default=None, exclude_if=lambda found: found is None)
    """None where there is no text that the model reads, and in records of before it was measured."""
    provenance: dict[str, Any]
    """commit, dirty, packages, data_sha256, weights_sha256, device, threads, python, platform; and
    taken_over_from, the suite that ran it where that was another."""
    predictions: str | None = None
    """File name of the per-item predictions beside the record (Parquet)."""
    saved: Saved | None = Field(default=None, exclude_if=lambda saved: saved is None)
    """None where the run was not asked to save its adapter: nothing else of it depends on that."""

    @property
    def settings(self) -> dict[str, Any]:
        """The adapter's registered name and hyperparameters, as they were resolved."""
        found: dict[str, Any] = self.config.get("adapter", {})
        return {"name": self.method, **found}

    @property
    def as_kept(self) -> RunRecord:
        """What is written of it: all, but of a trial's curve a part."""
        if not is_trial(self):
            return self
        return self.model_copy(update={"curve": self.curve.thinned(STEPS_OF_A_TRIAL)})

    @field_validator("stages")
    @classmethod
    def _rise(cls, stages: list[int]) -> list[int]:
        if stages and (stages[0] < 2 or stages != sorted({*stages})):
            raise ValueError("numbers of seeds rise, from 2 or more")
        return stages

    @model_validator(mode="after")
    def _first_schema(self) -> RunRecord:
        if not self.method:
            self.method, self.point, self.rank = told_by(self.adapter, self.config)
        return self


FailureKind = Literal["diverged", "error", "refused", "memory", "disk", "environment"]


class FailureRecord(Block):
    """A run or measurement that ended without a result: kept apart in `failed/`, shown, never counted."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    suite: str
    task: str
    adapter: str = ""
    """Empty for a measurement of overhead."""
    seed: int | None = None
    fingerprint: str
    """Empty where the data are missing that it is made from."""
    identity: dict[str, Any] = Field(default={})
    kind: FailureKind = "diverged"
    """What "diverged" or raised an "error" does so again under the same identity. The others depend on what
    is around it: "refused" before it started, out of "memory" or "disk", a missing package or network."""
    reason: str
    """One line."""
    traceback: str | None = None
    step: int | None = None
    config: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def comes_again(self) -> bool:
        """Whether the same run would end the same way."""
        return self.kind in ("diverged", "error")


def is_trial(record: RunRecord | FailureRecord) -> bool:
    """Whether it was run to choose settings by: such runs see the selection items alone."""
    return bool(record.config.get("scored_on") == "selection")
