"""What the papers claim in words, and what we ask beside that, as data: `results/published/claims.yaml`.

A claim names the measurement that decides it, the methods by their adapters and settings (never by what a
suite calls them), and, by direction and tolerance, which values it accepts (`Claim.acceptance`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from rankbench.reports.claims.measurements import MEASUREMENTS, Measurement
from rankbench.reports.claims.published import CLAIMS, PUBLISHED, Hand, Strict, read_checked
from rankbench.reports.stats.decision import Decision, Range, Test

OURS = "rankbench"
"""In place of a paper."""

Direction = Literal["superior", "not inferior", "equivalent", "above", "below", "at least", "at most"]


class Outcome(StrEnum):
    """What the records say of a claim or of a published figure."""

    REPRODUCED = "REPRODUCED"
    NOT_REPRODUCED = "NOT REPRODUCED"
    EQUIVALENT = "EQUIVALENT"
    """Neither was shown, but that any difference is within the claim's margin."""
    UNDERPOWERED = "UNDERPOWERED"
    PROTOCOL_DIFFERS = "PROTOCOL DIFFERS"
    NOT_RUN = "NOT RUN"

    @classmethod
    def of(cls, decision: Decision) -> Outcome:
        """What was decided, of something published."""
        return {"holds": cls.REPRODUCED, "fails": cls.NOT_REPRODUCED, "open": cls.UNDERPOWERED}[decision]


class Ratio(Strict):
    """What `against` must have of the method's; None: anything."""

    rank: float | None = Field(default=None, gt=0)
    parameters: float | None = Field(default=None, gt=0)


class Only(Strict):
    """What a claim is bound to; None: anything."""

    model: str | None = None
    pretrained: Literal[True] | None = None
    """No model of the task's own, and none with random weights."""
    tuned: Literal["both", "against", "alike"] | None = None
    """Whose settings a sweep must have chosen; alike: both methods', or neither's."""
    largest_rank: Literal[True] | None = None
    """The method at the largest rank that the setting has of it."""


class Method(Strict):
    """A method that a claim speaks of: a registered adapter, or any of several, and what its settings must
    and must not be.

    A setting that is a word and the name of another setting stands for that one's value.
    """

    name: str
    adapter: str | list[str]
    settings: dict[str, Any] = Field(default={})
    unlike: dict[str, Any] = Field(default={})
    """None of these."""
    defaults: dict[str, Any] = Field(default={})
    """These, or nothing said: the adapter's own, which records of costs leave out."""

    @model_validator(mode="before")
    @classmethod
    def _an_adapter(cls, given: Any) -> Any:
        return {"name": given, "adapter": given} if isinstance(given, str) else given

    @property
    def adapters(self) -> list[str]:
        """Names of the registered adapters, any of which it may be."""
        return [self.adapter] if isinstance(self.adapter, str) else self.adapter

    def fits(self, given: Mapping[str, object]) -> bool:
        """Whether a run with these settings, the adapter's name among them, is of the method."""

        def same(key: str, value: object) -> bool:
            wanted = given.get(value, value) if isinstance(value, str) else value
            return key in given and given[key] == wanted

        wanted = all(same(key, value) for key, value in self.settings.items())
        unwanted = any(same(key, value) for key, value in self.unlike.items())
        left = all(key not in given or same(key, value) for key, value in self.defaults.items())
        return given.get("name") in self.adapters and wanted and left and not unwanted

    def __str__(self) -> str:
        return self.name


class Claim(Strict):
    """One sentence of a paper, in our words, or a question of ours, and how it is decided."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    paper: str
    """arXiv id; `OURS` of a question that no paper asks."""
    sentence: str
    source: str
    hand: Hand | None = None
    """None of a question of ours."""
    measurement: str
    method: Method
    against: Method | None = None
    ratio: Ratio = Ratio()
    only: Only = Only()
    direction: Direction
    value: float | None = None
    tolerance: float = Field(ge=0)
    margin: float | None = Field(default=None, gt=0)
    """A difference so small that it does not matter, stated before any run, in the claim's unit; of a ratio
    0.02 stands for 0.98 to 1/0.98."""
    unit: str
    why: str
    """Why this tolerance."""
    test: Test
    question: str = ""
    """Of those that people bring, which it is a part of the answer to; empty: of none."""

    @model_validator(mode="after")
    def _decidable(self) -> Claim:
        if self.measurement not in MEASUREMENTS:
            close = difflib.get_close_matches(self.measurement, MEASUREMENTS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(MEASUREMENTS)}"
            raise ValueError(f"unknown measurement {self.measurement!r}; {hint}")
        if (self.against is None) == (self.value is None):
            raise ValueError("give `against` (another method) or `value` (a number), one of the two")
        if self.direction in ("superior", "not inferior") and self.against is None:
            raise ValueError(f"{self.direction!r} needs `against`")
        if self.direction in ("above", "below", "at least", "at most") and self.value is None:
            raise ValueError(f"{self.direction!r} needs `value`")
        if (self.paper == OURS) == (self.hand is not None):
            raise ValueError(f"`hand`, first or second, is of a paper: give both, or {OURS} as paper alone")
        if self.margin is not None and (self.against is None or self.direction == "equivalent"):
            raise ValueError("`margin` is of a difference to `against`; for `equivalent` it is the tolerance")
        if self.margin is not None and self.is_ratio and self.margin >= 1:
            raise ValueError(f"a ratio's margin is a share below 1, such as 0.02, not {self.margin:g}")
        if self.is_ratio and MEASUREMENTS[self.measurement].unit == "loss" and self.tolerance >= 1:
            raise ValueError(f"a loss has a share for its tolerance, such as 0.02, not {self.tolerance:g}")
        allowed = _tests(MEASUREMENTS[self.measurement], self.against is not None)
        if self.test is not allowed:
            raise ValueError(
                f"{self.measurement} is tested by {allowed.value!r} here, not {self.test.value!r}"
            )
        return self

    @property
    def is_ratio(self) -> bool:
        """Whether what is claimed is a ratio to another method's: it is judged by its logarithm."""
        return self.against is not None and MEASUREMENTS[self.measurement].contrast == "ratio"

    @property
    def centre(self) -> float:
        """What the tolerance is counted from."""
        if self.value is not None:
            return self.value
        return 1.0 if self.is_ratio else 0.0

    @property
    def prefers_more(self) -> bool:
        """Whether larger values are what the claim asks for."""
        if self.direction in ("above", "below", "at least", "at most"):
            return self.direction in ("above", "at least")
        return MEASUREMENTS[self.measurement].larger_is_better

    @property
    def acceptance(self) -> Range:
        """What the claimed quantity, or its difference or ratio to the other method's, may be."""
        low, high = self.centre - self.tolerance, self.centre + self.tolerance
        if self.is_ratio:
            low = 1 / high
        match self.direction:
            case "equivalent":
                return Range(low, high)
            case "superior" | "above" | "below":
                more, less = Range(low=high, strict=True), Range(high=low, strict=True)
            case "not inferior" | "at least" | "at most":
                more, less = Range(low=low), Range(high=high)
        return more if self.prefers_more else less

    @property
    def alike(self) -> Range | None:
        """The differences, or ratios, that do not matter; None without a margin."""
        if self.margin is None:
            return None
        low, high = self.centre - self.margin, self.centre + self.margin
        return Range(low, 1 / low if self.is_ratio else high)


class Claims(Strict):
    """The file of claims; `methods` are those that are more than an adapter's name."""

    methods: list[Method] = Field(default=[])
    claims: list[Claim] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """What is no block stays as it is, to be refused."""
        if not isinstance(given, dict) or not isinstance(given.get("claims"), list):
            return given
        listed = given["methods"] if isinstance(given.get("methods"), list) else []
        methods = {str(each.get("name")): each for each in listed if isinstance(each, dict)}

        def whole(claim: Any) -> Any:
            if not isinstance(claim, dict):
                return claim
            sides = {key: str(claim[key]) for key in ("method", "against") if key in claim}
            return claim | {key: methods[name] for key, name in sides.items() if name in methods}

        return given | {"claims": [whole(claim) for claim in given["claims"]]}

    @model_validator(mode="after")
    def _unique(self) -> Claims:
        ids = [claim.id for claim in self.claims]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"two claims of the id {', '.join(twice)}")
        names = [method.name for method in self.methods]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two methods of the name {', '.join(twice)}")
        return self


def load_claims(folder: Path = PUBLISHED) -> list[Claim]:
    """The claims, in file order. Raises reports.claims.published.PublishedError."""
    return read_checked(folder / CLAIMS, Claims).claims


@cache
def found_claims() -> Sequence[Claim]:
    """The claims, read once."""
    return tuple(load_claims())


def _tests(measurement: Measurement, paired: bool) -> Test:
    if measurement.exact:
        return Test.EXACT
    if measurement.kind == "overhead":
        return Test.PAIRED_PROCESSES
    if not paired:
        return Test.SEEDS
    return Test.PAIRED_SEEDS_AND_ITEMS if measurement.kind in ("score", "loss") else Test.PAIRED_SEEDS
