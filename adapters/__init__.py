"""Pluggable adapters: `create(name, **hyperparameters)`, then `attach` to a model.

Others register by an entry point of the group `rankbench.adapters` that names an `Adapter` subclass.
"""

from __future__ import annotations

import difflib
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from adapters.base import Adapter, AdapterError
from adapters.lora import Lora, RsLora
from adapters.scalora import ScaLora, ScaLoraIntermittent, ScaLoraScalar

__all__ = ["Adapter", "AdapterError", "create", "hyperparameters", "names"]

BUILT_IN: tuple[type[Adapter], ...] = (Lora, RsLora, ScaLoraScalar, ScaLora, ScaLoraIntermittent)


@cache
def _registry() -> dict[str, type[Adapter]]:
    registry = {adapter.name: adapter for adapter in BUILT_IN}
    for entry in entry_points(group="rankbench.adapters"):
        registry.setdefault(entry.name, entry.load())
    return registry


def names() -> list[str]:
    """All registered adapters."""
    return list(_registry())


def _known(name: str) -> type[Adapter]:
    if name not in _registry():
        raise AdapterError(f"unknown adapter {name!r}{_nearest(name, names())}")
    return _registry()[name]


def hyperparameters(name: str) -> list[str]:
    """The keys that `create(name, …)` takes. Raises AdapterError for an unknown adapter."""
    return [field.name for field in fields(_known(name)) if field.init]


def version(name: str) -> int:
    """The declared version of an adapter's behaviour."""
    return _known(name).version


def create(name: str, **values: Any) -> Adapter:
    """An adapter by its registered name. Raises AdapterError for an unknown name or key, and for
    values out of range."""
    for key in values:
        if key not in hyperparameters(name):
            raise AdapterError(f"{name} has no hyperparameter {key!r}{_nearest(key, hyperparameters(name))}")
    return _known(name)(**values)


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
