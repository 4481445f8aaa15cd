"""Registered adapters at the hyperparameters that each class names itself: no test keeps a table of them."""

from __future__ import annotations

from typing import Any

from rankbench import adapters
from rankbench.bench.suite import AdapterSpec, make_adapter


def example(name: str, *, steps: int, learning_rate: float = 1e-2, **values: Any) -> adapters.Adapter:
    """The adapter at its own example, but for `values`, as a run of so many steps makes it."""
    spec = AdapterSpec(name=name, **adapters.kind(name).example | values)
    return make_adapter(spec, learning_rate=learning_rate, steps=steps)
