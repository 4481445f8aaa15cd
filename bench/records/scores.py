"""What a run reached: its metrics, each with its scale; what merging changed, and what was forgotten."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from rankbench.bench.records.block import Block
from rankbench.tasks.metrics import UNKNOWN, Metric, find


class Scale(Block):
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


class Metrics(Block):
    """Scores on the test split, as fractions; `best` is the step chosen on the selection split."""

    main: str
    lower_is_better: bool = False
    best: dict[str, float]
    last: dict[str, float]
    best_step: int
    last_step: int
    selection: str = ""
    """The metric of `Observation.selection`."""
    held_out: str = Field(default="", exclude_if=lambda name: not name)
    """The metric that is the mean loss of the test items (`records.losses`); empty where the main one is,
    where answers tell no loss, and in records of before it was measured."""
    scales: dict[str, Scale] = Field(default={})
    """Of every metric above."""

    @model_validator(mode="after")
    def _scales_from_the_registry(self) -> Metrics:
        """As they are now, where the record was written before metrics carried them."""
        self.selection = self.selection or self.known.selected_by or self.main
        for name in sorted({self.main, self.selection, *self.best, *self.last} - self.scales.keys()):
            unknown = replace(UNKNOWN, lower_is_better=self.lower_is_better and name == self.main)
            self.scales[name] = Scale.of(find(name) or unknown)
        return self

    @property
    def scale(self) -> Scale:
        """The main metric's."""
        return self.scales[self.main]

    @property
    def known(self) -> Metric:
        """What tasks know of the main metric: how it splits over items, what a constant answer scores."""
        return find(self.main) or UNKNOWN

    def published(self, name: str) -> float | None:
        """The best score of what papers call `name`; None where there is none."""
        return next((v for k, v in self.best.items() if name in (k, (find(k) or UNKNOWN).published)), None)


class Forgetting(Block):
    """What the merged model has forgotten of what the pretrained one knew, by the general text."""

    kind: Literal["loss", "drift"]
    """Of a causal model the rise of a token's mean loss, in nats; of an encoder the drift of sentences'
    representations: 0 where there is none, 1 where they have nothing in common, 2 at most."""
    value: float
    items: int
    """Tokens, or sentences."""
    text: str
    """SHA-256 of the text: values of another one are not comparable."""

    @property
    def scale(self) -> Scale:
        """How the value is read."""
        drifts = self.kind == "drift"
        return Scale(low=0.0 if drifts else None, high=2.0 if drifts else None, lower_is_better=True)


class MergeParity(Block):
    """Merged against unmerged, on fixed selection items."""

    largest_logit_difference: float
    top1_flips: int
    items: int
