"""A measurement of overhead, with what its configuration says."""

from __future__ import annotations

from typing import Any

from rankbench.bench.records import OverheadRecord
from rankbench.reports.frames.contender import flatten


class Overhead(OverheadRecord):
    """The record of a measurement; nothing else reads its configuration."""

    @property
    def tokens(self) -> int | None:
        """That go into a step; None where that is not known."""
        if {"batch", "length"} <= self.config.keys():
            return int(self.config["batch"] * self.config["length"])
        return self.config.get("tokens")

    @property
    def computed_in(self) -> tuple[str, str]:
        """What the frozen weights were held in, and the precision of autocast."""
        model = self.config.get("model") or {}
        weights = model.get("weights", "float32") if isinstance(model, dict) else "float32"
        return weights, self.config.get("precision", "no")

    @property
    def names_processes(self) -> bool:
        """Whether it was told in how many processes to measure; the earliest were not."""
        return "processes" in self.config

    @property
    def protocol(self) -> dict[str, str]:
        """Flattened, the model included: what two measurements must share to be compared."""
        free = ("adapters", "rounds", "processes")
        return flatten({"model": self.model, **{k: v for k, v in self.config.items() if k not in free}})

    def given(self, label: str) -> dict[str, Any]:
        """A contender's settings and its adapter's name (else its label), as `Contender.given` has them."""
        adapters = self.config.get("adapters", {})
        return {"name": label, **(adapters.get(label, {}) if isinstance(adapters, dict) else {})}
