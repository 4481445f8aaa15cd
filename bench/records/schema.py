"""The record of one run: its schema and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from rankbench.bench.records.files import RecordError, write_atomically
from rankbench.bench.records.labels import taken_apart
from rankbench.tasks.metrics import METRICS, UNKNOWN, Metric

__all__ = ["RecordError", "write_atomically"]

SCHEMA_VERSION: Literal[2] = 2
"""2: `identity`, `legs`, and a failure's `kind` and `traceback`. Records of version 1 are read too."""

LOOP_VERSION = 3
"""Of the training loop: raised when the same inputs would give other numbers; part of every fingerprint.
It is kept here since reports name it too, and load no torch."""

DEFAULT_BASELINE = "lora"
"""Of suites that name none, and of records from before they could."""

Record = TypeVar("Record", bound=BaseModel)


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Scale(_Block):
    """How a metric is read: its range (None: no end), which way is better, whether it is shown × 100."""

    low: float | None = None
    high: float | None = None
    lower_is_better: bool = False
    percent: bool = False

    @classmethod
    def of(cls, known: Metric) -> Scale:
        """That of a metric of the registry."""
        low, high = (end if math.isfinite(end) else None for end in (known.low, known.high))
        return cls(low=low, high=high, lower_is_better=known.lower_is_better, percent=known.percent)


class Metrics(_Block):
    """Scores on the test split, as fractions; `best` is the step chosen on the selection split."""

    main: str
    lower_is_better: bool = False
    best: dict[str, float]
    last: dict[str, float]
    best_step: int
    last_step: int
    selection: str = ""
    """The metric of `Observation.selection`."""
    scales: dict[str, Scale] = {}
    """Of every metric above."""

    @model_validator(mode="after")
    def _scales_from_the_registry(self) -> Metrics:
        """As they are now, where the record was written before metrics carried them."""
        self.selection = self.selection or METRICS.get(self.main, UNKNOWN).selected_by or self.main
        for name in sorted({self.main, self.selection, *self.best, *self.last} - self.scales.keys()):
            unknown = replace(UNKNOWN, lower_is_better=self.lower_is_better and name == self.main)
            self.scales[name] = Scale.of(METRICS.get(name, unknown))
        return self

    @property
    def scale(self) -> Scale:
        """The main metric's."""
        return self.scales[self.main]


class Curve(_Block):
    """One entry a step, in order: task loss and penalty apart, seconds of the synchronised step."""

    step: list[int] = []
    loss: list[float] = []
    penalty: list[float] = []
    gradient_norm: list[float] = []
    learning_rate: list[float] = []
    seconds: list[float] = []

    @model_validator(mode="after")
    def _one_entry_a_step(self) -> Curve:
        if len({len(entries) for entries in self.model_dump().values()}) > 1:
            raise ValueError("its lists differ in length")
        return self


class Observation(_Block):
    """What was measured between steps: after `step` optimizer steps."""

    step: int
    selection: float | None = None
    """The main metric on the selection split."""
    accumulated_rank: dict[str, int] = {}
    """Rank of (weight now - pretrained weight) per probed layer."""
    gradient_rank: dict[str, int] = {}
    """Rank of the gradient by the whole weight, on the first training batch, per probed layer."""
    one_position: list[str] = []
    """Probed layers of which one position an input reaches the loss, as a pooler's: their gradient's rank is
    at most the number of inputs, whatever the method."""

    @property
    def judged_gradient_rank(self) -> dict[str, int]:
        """Of the layers of which more than one position an input reaches the loss."""
        return {name: rank for name, rank in self.gradient_rank.items() if name not in self.one_position}


class Timings(_Block):
    """Seconds. The median step leaves out the warm-up steps; hooks are inside it. Of a resumed run the
    total covers all legs, each up to its last checkpoint."""

    median_step: float
    train: float
    score: float
    total: float
    legs: int = 1
    """Processes that worked on the run, one after the other."""


class Memory(_Block):
    """MiB at the peak of all legs of a run; the allocator's figures where the device has one."""

    peak_resident: float
    peak_allocated: float | None = None
    peak_reserved: float | None = None


class Parameters(_Block):
    """`adapter` leaves out the task head; `trainable` counts it."""

    total: int
    trainable: int
    adapter: int


class MergeParity(_Block):
    """Merged against unmerged, on fixed selection items."""

    largest_logit_difference: float
    top1_flips: int
    items: int


class RunRecord(_Block):
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
    point: dict[str, Any] = {}
    """The values that a grid gave this run, by their keys."""
    tuned: bool = False
    """Whether the suite says that a sweep chose the method's settings."""
    baseline: str = DEFAULT_BASELINE
    """The suite's entry that its others are set beside. No number depends on it: `rankbench run` writes
    what the suite says now into the records that are there."""
    model: str
    fingerprint: str
    identity: dict[str, Any] = {}
    """What the fingerprint was made from, so that a difference can be named; empty before schema 2."""
    config: dict[str, Any]
    """The whole resolved configuration: task, model, training, adapter with hyperparameters."""
    protocol: dict[str, Any]
    """What must agree before two results share a column."""
    metrics: Metrics
    curve: Curve
    observations: list[Observation] = []
    timings: Timings
    memory: Memory
    parameters: Parameters
    layers: dict[str, int] = {}
    """Entry of the targets -> how many layers it names; empty in records of before this was kept."""
    heads: list[str] = []
    """Modules trained whole beside the adapter: what the checkpoint does not hold, or the kept head."""
    diagnostics: dict[str, Any]
    merge_parity: MergeParity | None = None
    provenance: dict[str, Any]
    """commit, dirty, packages, data_sha256, weights_sha256, device, threads, python, platform; and
    taken_over_from, the suite that ran it where that was another."""
    predictions: str | None = Field(default=None)
    """File name of the per-item predictions beside the record (Parquet)."""

    @property
    def settings(self) -> dict[str, Any]:
        """The adapter's registered name and hyperparameters, as they were resolved."""
        found: dict[str, Any] = self.config.get("adapter", {})
        return {"name": self.method, **found}

    @model_validator(mode="after")
    def _read_by_its_configuration(self) -> RunRecord:
        """Records without a method were written before there was one: their labels were made from it."""
        if not self.method:
            given = {"learning_rate": self.config.get("learning_rate"), **self.config.get("adapter", {})}
            self.method, self.point = taken_apart(self.adapter, given)
            self.rank = rank_of(self.settings)
        return self


def _in_processes(value: Any) -> Any:
    """Records of one process, as they once were, hold its rounds without a list around them."""
    flat = isinstance(value, list) and not any(isinstance(part, list) for part in value)
    return [value] if flat else value


def _as_list(value: Any) -> Any:
    """A peak measured once, as it once was, is a bare number."""
    return [value] if isinstance(value, int | float) else value


Rounds = Annotated[list[list[PositiveFloat]], BeforeValidator(_in_processes)]
"""Process -> round -> seconds of one synchronised step."""
Shares = Annotated[list[list[NonNegativeFloat]], BeforeValidator(_in_processes)]
"""The same of a part of the step, which may be too short for the clock."""
Peaks = Annotated[list[PositiveFloat], BeforeValidator(_as_list)]
"""MiB at the peak of a process, one after the other."""


def _check_rounds(contenders: Iterable[list[list[float]]]) -> None:
    shapes = {tuple(len(rounds) for rounds in processes) for processes in contenders}
    if len(shapes) > 1:
        raise ValueError("its contenders have unequal rounds")
    if any(0 in shape or not shape for shape in shapes):
        raise ValueError("a process without a round")


class GrowthPoint(_Block):
    """Step cost of one shape of a stack of linear layers, contenders interleaved in each process."""

    axis: Literal["rank", "width", "layers"]
    """What is varied from point to point."""
    rank: int
    width: int
    layers: int
    seconds: dict[str, Rounds]
    """Contender -> process -> seconds in each round."""
    rescale: dict[str, Shares] = {}
    """Adapter -> its work before the optimizer's step, a part of its `seconds`."""

    @model_validator(mode="after")
    def _equal_rounds(self) -> GrowthPoint:
        _check_rounds([*self.seconds.values(), *self.rescale.values()])
        return self


class OverheadRecord(_Block):
    """Step cost of several contenders on one model and shape, interleaved in each of several fresh
    processes: `overhead/NAME.json`. The processes are what a cost's spread is taken over."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    suite: str
    name: str
    baseline: str = DEFAULT_BASELINE
    """As a run's."""
    model: str
    fingerprint: str
    identity: dict[str, Any] = {}
    """What the fingerprint was made from, so that a difference can be named; empty before schema 2."""
    config: dict[str, Any]
    """batch, length, processes, rounds, targets, adapters with hyperparameters; `kind` where it is no
    plain step."""
    seconds: dict[str, Rounds]
    """Contender (adapter label, "floor", …) -> process -> seconds in each round."""
    peak_resident: dict[str, Peaks]
    """Contender -> MiB at the peak of each of its processes, in which nothing else ran."""
    parameters: dict[str, int]
    growth: list[GrowthPoint] = []
    """The points of a measurement of growth, which has no other `seconds`."""
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _equal_rounds(self) -> OverheadRecord:
        _check_rounds(self.seconds.values())
        if len({len(peaks) for peaks in self.peak_resident.values()}) > 1:
            raise ValueError("its contenders have peaks of unequal numbers of processes")
        return self

    @property
    def processes(self) -> int:
        """In how many fresh processes it was measured."""
        first = self.growth[0].seconds if self.growth else self.seconds
        return len(next(iter(first.values()), []))


FailureKind = Literal["diverged", "error", "refused", "memory", "disk", "environment"]


class FailureRecord(_Block):
    """A run or measurement that ended without a result: kept apart in `failed/`, shown, never counted."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    suite: str
    task: str
    adapter: str = ""
    """Empty for a measurement of overhead."""
    seed: int | None = None
    fingerprint: str
    """Empty where the data are missing that it is made from."""
    identity: dict[str, Any] = {}
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


def rank_of(settings: dict[str, Any]) -> int | None:
    """The rank among an adapter's settings, PEFT's by its own name; None where it has none."""
    rank: int | None = settings.get("rank", settings.get("config", {}).get("r"))
    return rank


def fingerprint(parts: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything that a number depends on."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as indented JSON, atomically."""
    write_atomically(path, (record.model_dump_json(indent=1) + "\n").encode())


def read_record(path: Path, schema: type[Record]) -> Record:
    """Read and check one record. Raises RecordError with the file's name and the way out."""
    try:
        return schema.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecordError(
            f"{path} is corrupt ({where}: {first['msg']}); delete it and run the suite again"
        ) from error


def read_runs(suite_folder: Path) -> Iterator[RunRecord]:
    """All run records of a suite, in file-name order."""
    for path in sorted((suite_folder / "runs").glob("*.json")):
        yield read_record(path, RunRecord)
