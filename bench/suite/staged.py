"""Which seeds an experiment is run with: those that a suite lists, or more and more of them until its claims
are decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    Tag,
    model_validator,
)

from rankbench.bench.suite.blocks import Strict, refuse_switch

STAGES = (3, 5, 8, 12, 20, 40)
"""Numbers of seeds after which claims are judged. They are the same for all suites, so that nobody chooses
them by what they show."""


class Staged(Strict):
    """The seeds 0, 1, 2 … up to the stage at which all claims about a cell are decided, or to the last."""

    first: int = Field(alias="from", ge=2)
    """Seeds before anything is judged: a spread needs two."""
    to: int = Field(le=STAGES[-1])
    """The most, whatever is still open then."""
    until: Literal["decided"]

    @model_validator(mode="after")
    def _rise(self) -> Staged:
        if self.first > self.to:
            raise ValueError(f"from {self.first} seeds to {self.to} are none; exchange the two")
        return self

    @property
    def stages(self) -> tuple[int, ...]:
        """Numbers of seeds at which is judged, rising."""
        return tuple(sorted({self.first, self.to, *(n for n in STAGES if self.first < n < self.to)}))


def _distinct(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is there twice; leave one out")
    return seeds


Seed: TypeAlias = Annotated[NonNegativeInt, BeforeValidator(refuse_switch)]
Listed: TypeAlias = Annotated[list[Seed], Field(min_length=1), AfterValidator(_distinct)]


def _kind(data: Any) -> str:
    return "staged" if isinstance(data, dict | Staged) else "listed"


Seeds: TypeAlias = Annotated[
    Annotated[Listed, Tag("listed")] | Annotated[Staged, Tag("staged")], Discriminator(_kind)
]
KINDS = {"listed", "staged"}
"""What pydantic puts behind the key, where it says at which place of the file a fault is."""


def all_of(seeds: list[int] | Staged) -> Sequence[int]:
    """Every seed that may be run."""
    return range(seeds.to) if isinstance(seeds, Staged) else seeds


def stages_of(seeds: list[int] | Staged) -> tuple[int, ...]:
    """Numbers of seeds after which is judged; none where the seeds are listed."""
    return seeds.stages if isinstance(seeds, Staged) else ()
