"""What a suite's `overhead` block may hold: the cost of a step, of a whole loop, and how it grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from rankbench import adapters
from rankbench.bench.suite.blocks import Adapters, AdapterSpec, Model, Precision, Strict, make_adapter

AXES = ("rank", "width", "layers")

WARM_UP = 2
"""Untimed rounds first. The second leaves every adapter past its zero start."""


Processes = Annotated[int, Field(gt=0)]
"""Fresh ones, one after the other: what the spread of a cost is taken over. Of one nothing can be judged."""
Rounds = Annotated[int, Field(gt=1)]
"""In each process, after the warm-up. A multiple of the interval of what is not done in every step."""


class Overhead(Adapters):
    """Step cost, contenders interleaved in each process, with nothing else running."""

    head: Literal["sequence", "causal"] = "sequence"
    batch: int = Field(gt=0)
    length: int = Field(gt=0)
    precision: Precision = Field(default="no", exclude_if=lambda value: value == "no")
    """Autocast. Left out of what identifies a measurement where it says nothing, as `alone` is."""
    alone: bool = Field(default=False, exclude_if=lambda value: not value)
    """One contender after the other instead of all in turns: memory has to hold but one of them."""
    blocks: int = Field(default=0, ge=0, exclude_if=lambda count: count == 0)
    """For large models: all contenders share one, loaded once a process. Each is attached to it, takes a part
    of the rounds in a row, after a warm-up, and is taken off again; then the next, so many times over."""
    processes: Processes = 5
    rounds: Rounds = 10

    @model_validator(mode="after")
    def _one_way_to_take_turns(self) -> Overhead:
        if self.alone and self.blocks:
            raise ValueError("alone and blocks are two ways to take turns; leave one of them out")
        if self.blocks and (self.rounds % self.blocks or self.rounds == self.blocks):
            raise ValueError(
                f"{self.rounds} rounds are not {self.blocks} blocks of two or more; "
                "make `rounds` another multiple of `blocks`"
            )
        return self

    @property
    def rounds_in_a_row(self) -> int:
        """That a contender takes before it is another one's turn and it begins anew."""
        return self.rounds // max(self.blocks, 1)

    @property
    def steps_of_a_run(self) -> int:
        """One optimizer step a round."""
        return WARM_UP + self.rounds_in_a_row


class Loop(Strict):
    """Our whole loop with LoRA beside Hugging Face's Trainer with PEFT's, tokenised data in, steps out."""

    kind: Literal["loop"]
    model: Model
    targets: str | list[str]
    rank: int = Field(gt=0)
    alpha: int = Field(gt=0)
    head: Literal["sequence", "causal"] = "sequence"
    batch: int = Field(gt=0)
    length: int = Field(gt=1)
    """Tokens of an example, its answer included."""
    answer: int | None = Field(default=None, gt=0)
    """Answer tokens at the end of an example of a causal model; by default all tokens but the first."""
    processes: Processes = 5
    rounds: Rounds = 10

    @model_validator(mode="after")
    def _answer_fits(self) -> Loop:
        if self.answer is not None and (self.head != "causal" or self.answer >= self.length):
            raise ValueError("an answer needs head: causal and fewer tokens than length")
        return self


class Shape(Strict):
    """A stack of square linear layers and the rank of its adapters."""

    rank: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(gt=0)

    @model_validator(mode="after")
    def _rank_fits(self) -> Shape:
        if self.rank > self.width:
            raise ValueError(f"rank {self.rank} is above width {self.width}")
        return self


class Growth(Strict):
    """Step cost against rank, width and number of adapted layers, one at a time from `base` on."""

    kind: Literal["growth"]
    adapters: list[str]
    """Names of registered adapters that have a rank; other hyperparameters at their defaults."""
    tokens: int = Field(gt=0)
    """Rows of the stack's input."""
    base: Shape
    rank: list[int]
    width: list[int]
    layers: list[int]
    processes: Processes = 5
    rounds: Rounds = 10

    @field_validator("adapters")
    @classmethod
    def _have_a_rank(cls, names: list[str]) -> list[str]:
        for name in names:
            if "rank" not in adapters.hyperparameters(name):
                raise ValueError(f"adapter {name} has no rank to grow")
        return names

    @model_validator(mode="after")
    def _shapes_fit(self) -> Growth:
        points = list(self.shapes())
        if not points:
            raise ValueError("rank, width and layers: give one of them values; nothing grows here")
        if len(set(points)) < len(points):
            raise ValueError("rank, width and layers: a value is there twice; leave one out")
        for name in self.adapters:
            for _, shape in points:
                spec = AdapterSpec.model_validate({"name": name, "rank": shape.rank})
                make_adapter(spec, learning_rate=1e-3, steps=WARM_UP + self.rounds)
        return self

    def shapes(self) -> Iterator[tuple[str, Shape]]:
        """Every point: the axis that is varied, and the whole shape."""
        for axis in AXES:
            for value in getattr(self, axis):
                yield axis, Shape.model_validate(self.base.model_dump() | {axis: value})


def _kind(data: Any) -> str:
    return str(data.get("kind", "step")) if isinstance(data, dict) else str(getattr(data, "kind", "step"))


Cost = Annotated[
    Annotated[Overhead, Tag("step")] | Annotated[Loop, Tag("loop")] | Annotated[Growth, Tag("growth")],
    Discriminator(_kind),
]
"""One entry of the block; an entry without a `kind` is the cost of a step."""
