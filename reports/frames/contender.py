"""What the runs of one label share: the method, its settings and its recipe."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from rankbench.bench.records import RunRecord

NO_MODEL = "none"
"""The model's name where a task brings its own."""

RATE = "learning_rate"

Place = tuple[Any, ...]
"""Sorts contenders."""


@dataclass(frozen=True)
class Contender:
    """An entry of the suite at one point of its grid, as the record of its first seed has it."""

    record: RunRecord

    @property
    def label(self) -> str:
        """How the suite calls it: to be read, never parsed."""
        return self.record.adapter

    @property
    def method(self) -> str:
        """The suite's entry."""
        return self.record.method

    @property
    def name(self) -> str:
        """What sentences call it: its label; of a grid's point, which its label names too, the entry."""
        return self.method if self.is_swept else self.label

    @cached_property
    def adapter(self) -> str:
        """The registered name."""
        name: str = self.record.settings["name"]
        return name

    @property
    def rank(self) -> int | None:
        """None where it has none."""
        return self.record.rank

    @property
    def ranks(self) -> str:
        """As tables show it, with the one that pruning leaves: "4", "8 → 4", nothing of none."""
        left = self.settings.get("target_rank")
        return "" if self.rank is None else f"{self.rank}" + (f" → {left:g}" if left else "")

    @property
    def point(self) -> dict[str, Any]:
        """What its grid gave it."""
        return self.record.point

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Hyperparameters of the adapter and its optimizer, without the adapter's name."""
        given = self.record.settings | {"learning_rate": self.record.config.get("learning_rate")}
        return {key: value for key, value in given.items() if key != "name" and value is not None}

    @property
    def given(self) -> dict[str, Any]:
        """The settings, and the adapter's name: what claims know a method by."""
        return {"name": self.adapter, **self.settings}

    @property
    def is_swept(self) -> bool:
        """Whether it is a point of a grid over learning rates, of which the best is to be chosen."""
        return RATE in self.point and not self.record.chosen_by

    @property
    def says_who_tuned(self) -> bool:
        """Records of before suites said whose settings a sweep chose do not."""
        return self.record.schema_version > 1

    @property
    def is_pruned(self) -> bool:
        """Whether it is AdaLoRA, whose size the papers count at the rank that its pruning leaves."""
        return self.adapter == "adalora" and "target_rank" in self.settings

    @property
    def parameters(self) -> float:
        """Of the adapter, as the papers' tables count them: of AdaLoRA what its pruning leaves."""
        counted: float = self.record.parameters.adapter
        if self.is_pruned:
            counted *= self.settings["target_rank"] / self.settings["rank"]
        return counted

    @property
    def is_pretrained(self) -> bool:
        """Whether its model's weights were learned before."""
        weights = self.record.provenance.get("weights", "")
        return self.record.model != NO_MODEL and not weights.startswith("random:")

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """How it was trained, by the names that `claims.published.Protocol` has."""
        training, protocol = self.record.config.get("training", {}), self.record.protocol
        batch = training.get("batch_size", math.nan) * training.get("accumulation", 1)
        examples = protocol.get("sizes", {}).get("train")
        precision = training.get("precision")
        return {
            "model": self.record.model,
            # AdaLoRA's tables count the rank that is left.
            "rank": self.settings.get("target_rank" if self.adapter == "adalora" else "rank"),
            "alpha": self.settings.get("alpha"),
            "steps": training.get("steps"),
            "epochs": training.get("steps", math.nan) * batch / examples if examples else None,
            "batch": batch,
            "learning_rate": self.settings.get("learning_rate"),
            "length": protocol.get("max_length"),
            "precision": {"no": "fp32"}.get(precision, precision),
        }

    @cached_property
    def place(self) -> Place:
        """By the entry's name, then by the values that its grid gave; the baseline's comes before all."""
        point = [by_size(f"{value}") for value in self.point.values()]
        return (self.method != self.record.baseline, by_size(self.method), point, self.label)


Runs = dict[str, dict[int, RunRecord]]
"""Label -> seed -> record."""


def in_order(runs: Runs) -> Runs:
    """The labels in the order of their contenders, of each the seeds rising."""
    rising = {label: dict(sorted(by_seed.items())) for label, by_seed in runs.items()}
    return dict(sorted(rising.items(), key=lambda each: Contender(next(iter(each[1].values()))).place))


def by_size(name: str) -> list[tuple[float, str]]:
    """Sorts names as they are read: numbers in them by their size."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e-?\d+)?)", name)
    return [(float(part), "") if i % 2 else (-1.0, part) for i, part in enumerate(parts)]


def flatten(block: dict[str, Any]) -> dict[str, str]:
    """A nested block as dotted keys and printable values."""
    return {**_flattened(json.dumps(block, sort_keys=True))}


@lru_cache(maxsize=1000)
def _flattened(text: str) -> dict[str, str]:
    """Of a block as JSON: what the records of thousands of runs say alike is taken apart once."""
    return dict(_leaves(json.loads(text), ""))


def _leaves(block: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key in sorted(block):
        value = block[key]
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value, sort_keys=True)
