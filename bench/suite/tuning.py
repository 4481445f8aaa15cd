"""What a suite may say of tuning: how many trials, over which ranges, and what is drawn for an entry.

The same for all entries of an experiment: trials, seed, length of a trial, and ranges that the suite gives.
What an entry sets itself is not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from rankbench import adapters
from rankbench.adapters.errors import nearest
from rankbench.bench.records.labels import in_order
from rankbench.bench.suite.blocks import AdapterSpec, Strict, make_adapter

DIGITS = 3
"""Significant ones of what is drawn: a rate is read, written and repeated exactly."""


class Span(Strict):
    """The values that one hyperparameter may have, written `[low, high]` or `[low, high, log]`."""

    low: float
    high: float
    log: bool = False
    """Drawn evenly on the logarithm."""
    whole: bool = False
    """Whole numbers only."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        if isinstance(data, dict | Span):
            return data
        if not isinstance(data, list | tuple):
            raise ValueError(f"a range is [low, high] or [low, high, log], not {data!r}")
        if len(data) not in (2, 3) or data[2:] not in (["log"], ["linear"], ("log",), ("linear",), [], ()):
            raise ValueError(f"a range is [low, high] or [low, high, log], not {list(data)!r}")
        return {"low": data[0], "high": data[1], "log": "log" in data[2:]}

    @model_validator(mode="after")
    def _is_one(self) -> Span:
        if self.log and self.low <= 0:
            raise ValueError(f"a range on the logarithm begins above 0, not at {self.low:g}")
        if not self.at(0) < self.at(1):
            raise ValueError(f"the range ends at {self.high:g}, which is not above its begin {self.low:g}")
        return self

    def at(self, share: float) -> float | int:
        """The value at a share, 0 … 1, of the way from low to high, rounded."""
        value = min(max(self.unbounded(share), self.low), self.high)
        return round(value) if self.whole else value

    def unbounded(self, share: float) -> float:
        """The same of shares below 0 and above 1, beyond the ends, a number of three digits."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        value = low + share * (high - low)
        return float(f"{math.exp(value) if self.log else value:.{DIGITS}g}")

    def share(self, value: float) -> float:
        """Where a value lies, 0 at low and 1 at high; below and above beyond them."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        return (self._scaled(value) - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


class Halving(Strict):
    """Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): `rungs` shorter trials before the
    full one, each `factor` times as long as the one before; the best of a rung, one in `factor` of all that
    began it, go on. The same for every method."""

    rungs: int = Field(default=1, gt=0, le=30)
    """No run is so long that it could be halved more often."""
    factor: int = Field(default=2, gt=1)

    def steps(self, full: int) -> list[int]:
        """Of each rung, the full length last."""
        return [full // self.factor ** (self.rungs - rung) for rung in range(self.rungs)] + [full]

    def going_on(self, trials: int) -> list[int]:
        """How many of so many trials are in each rung."""
        return [math.ceil(trials / self.factor**rung) for rung in range(self.rungs + 1)]


class Tune(Strict):
    """How an experiment's hyperparameters are chosen, for every entry alike."""

    trials: int = Field(default=8, gt=0, le=1000)
    """Of each entry that leaves something to be chosen."""
    space: dict[str, Span] = Field(default={})
    """In the place of the adapters' own ranges, for all entries that have such a hyperparameter."""
    on: Literal["selection"] = "selection"
    """The split that trials are scored on; test items choose nothing."""
    seed: int = Field(default=1000, ge=0)
    """Of all trials; none of the final runs has it."""
    widen: int = Field(default=1, ge=0, le=10)
    """How often the ranges may grow, where a best trial lies at an edge."""
    halving: Halving | None = None
    """Stop trials early by this rule; without it all have the full length."""

    @property
    def extra(self) -> int:
        """Trials of each entry after ranges have grown."""
        return math.ceil(self.trials / 2)

    @property
    def rungs(self) -> Halving:
        """The rule, which stops nothing where there is none."""
        return self.halving or Halving.model_construct(rungs=0, factor=1)


def trials_of(experiment: str) -> str:
    """The experiment that an experiment's trials are runs of."""
    return f"{experiment}-trials"


def space_of(spec: AdapterSpec, tune: Tune) -> dict[str, Span]:
    """What is drawn for an entry: the adapter's ranges or the suite's in their place, without what the entry
    sets itself; the learning rate first. Raises ValueError as `declared` does."""
    kinds = _kinds(spec)
    pinned = {*spec.hyperparameters, *(["learning_rate"] if spec.learning_rate is not None else [])}
    found = declared(spec) | {key: span for key, span in tune.space.items() if key in kinds}
    return in_order(
        {
            key: span.model_copy(update={"whole": kinds[key] in ("int", int)})
            for key, span in found.items()
            if key not in pinned
        }
    )


def declared(spec: AdapterSpec) -> dict[str, Span]:
    """The ranges that the entry's adapter declares. Raises ValueError where one is none, or is nobody's."""
    found, known = {}, list(_kinds(spec))
    space = adapters.kind(spec.name).space_of(spec.hyperparameters)
    if not isinstance(space, Mapping):  # another's adapter may say anything
        raise ValueError(f"space of {spec.name}: it is {{name: (low, high, 'log')}}, not {space!r}")
    for key, ends in space.items():
        if key not in known:
            raise ValueError(f"space of {spec.name}: it has no hyperparameter {key!r}{nearest(key, known)}")
        try:
            found[key] = Span.model_validate(ends)
        except ValidationError as error:
            fault = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"space of {spec.name}: {key}: {fault}") from None
    return found


def _kinds(spec: AdapterSpec) -> dict[str, Any]:
    """Hyperparameter -> its type, or the name of that."""
    own = {each.name: each.type for each in fields(adapters.kind(spec.name)) if each.init}
    return {"learning_rate": float} | own


def refused(spec: AdapterSpec, point: dict[str, Any], steps: int) -> str:
    """Why the entry's adapter cannot be made with these values; empty where it can."""
    try:
        tried = AdapterSpec.model_validate(spec.model_dump() | point)
        make_adapter(tried, learning_rate=tried.learning_rate or 1e-3, steps=steps)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{first['loc'][-1]}: {first['msg']}"
    except ValueError as error:  # an AdapterError, or what another's adapter raises
        return str(error)
    return ""


def check_tuning(entries: dict[str, AdapterSpec], tune: Tune, steps: int) -> None:
    """Raise ValueError where a range is nobody's, or an adapter refuses an end of its own."""
    spaces = {label: space_of(spec, tune) for label, spec in entries.items()}
    drawn = {key for space in spaces.values() for key in space}
    if not drawn:
        raise ValueError("tune: every entry sets all that could be drawn; leave something out, or `tune`")
    for key in tune.space:
        if key not in drawn:
            raise ValueError(f"tune: space: no entry leaves {key!r} to be drawn{nearest(key, sorted(drawn))}")
    if tune.rungs.steps(steps)[0] == 0:
        raise ValueError(f"tune: halving: {steps} steps are too few for so many rungs")
    for label, space in spaces.items():
        for length in tune.rungs.steps(steps):
            for share in (0, 1):
                point = {key: span.at(share) for key, span in space.items()}
                if why := refused(entries[label], point, length):
                    raise ValueError(f"tune: {label} with {point}: {why}")
