"""The record of a measurement of cost: seconds of steps, process by process, and memory at the peak."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, model_validator

from rankbench.bench.records.block import DEFAULT_BASELINE, SCHEMA_VERSION, Block

FLOOR, STOCK_FLOOR = "floor", "floor, PyTorch's dropout"
"""Contenders that are no adapter: the step without one, and the same with dropout as PyTorch draws it."""
OURS, TRAINER = "rankbench", "trainer"
"""Contenders that are whole loops: ours, and Hugging Face's, which only measurements of loops have."""
STOCK, ALL_LOGITS = "rankbench, PyTorch's dropout", "rankbench, all logits"
"""Ours without what it spares."""


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
"""MiB at the peak of a process, or its joules, one after the other."""


def _check_rounds(contenders: Iterable[list[list[float]]]) -> None:
    shapes = {tuple(len(rounds) for rounds in processes) for processes in contenders}
    if len(shapes) > 1:
        raise ValueError("its contenders have unequal rounds")
    if any(0 in shape or not shape for shape in shapes):
        raise ValueError("a process without a round")


class GrowthPoint(Block):
    """Step cost of one shape of a stack of linear layers, contenders interleaved in each process."""

    axis: Literal["rank", "width", "layers"]
    """What is varied from point to point."""
    rank: int
    width: int
    layers: int
    seconds: dict[str, Rounds]
    """Contender -> process -> seconds in each round."""
    rescale: dict[str, Shares] = Field(default={})
    """Adapter -> its work before the optimizer's step, a part of its `seconds`."""

    @model_validator(mode="after")
    def _equal_rounds(self) -> GrowthPoint:
        _check_rounds([*self.seconds.values(), *self.rescale.values()])
        return self


class OverheadRecord(Block):
    """Step cost of several contenders on one model and shape, interleaved in each of several fresh
    processes: `overhead/NAME.json`. The processes are what a cost's spread is taken over."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    suite: str
    name: str
    baseline: str = DEFAULT_BASELINE
    """As a run's."""
    model: str
    fingerprint: str
    identity: dict[str, Any] = Field(default={})
    """What the fingerprint was made from, so that a difference can be named; empty before schema 2."""
    config: dict[str, Any]
    """batch, length, processes, rounds, targets, adapters with hyperparameters; `kind` where it is no
    plain step."""
    seconds: dict[str, Rounds]
    """Contender (adapter label, "floor", …) -> process -> seconds in each round."""
    peak_resident: dict[str, Peaks]
    """Contender -> MiB at the peak of each process, with nothing but it and its model there: what a card's
    allocator had handed out, or where there is no card what was resident."""
    peak_reserved: dict[str, Peaks] = Field(default={}, exclude_if=lambda peaks: not peaks)
    """The same of what that allocator had taken of the card, its cache included; empty without a card."""
    joules: dict[str, Peaks] = Field(default={}, exclude_if=lambda found: not found)
    """Contender -> what the whole card used in a mean round of each process, its idle part included; empty
    where contenders take turns round by round, and where the card does not tell."""
    parameters: dict[str, int]
    growth: list[GrowthPoint] = Field(default=[])
    """The points of a measurement of growth, which has no other `seconds`."""
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _equal_rounds(self) -> OverheadRecord:
        _check_rounds(self.seconds.values())
        measured = {"peaks": self.peak_resident, "reserved peaks": self.peak_reserved, "joules": self.joules}
        for what, found in measured.items():
            if len({len(values) for values in found.values()}) > 1:
                raise ValueError(f"its contenders have {what} of unequal numbers of processes")
        return self

    @property
    def processes(self) -> int:
        """In how many fresh processes it was measured."""
        first = self.growth[0].seconds if self.growth else self.seconds
        return len(next(iter(first.values()), []))
