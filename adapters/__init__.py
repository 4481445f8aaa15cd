"""Pluggable adapters: `create(name, **hyperparameters)`, then `attach` to a model.

Others register by an entry point of the group `rankbench.adapters` that names an `Adapter` subclass.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from adapters.base import Adapter, AdapterError, nearest
from adapters.full import Full
from adapters.lora import Lora, RsLora
from adapters.lora2 import Lora2
from adapters.peft import AdaLora, Dora, Hira, Peft
from adapters.scalora import ScaLora, ScaLoraIntermittent, ScaLoraScalar

__all__ = ["Adapter", "AdapterError", "create", "hyperparameters", "names", "version"]

BUILT_IN: tuple[type[Adapter], ...] = (
    Lora,
    RsLora,
    Lora2,
    ScaLoraScalar,
    ScaLora,
    ScaLoraIntermittent,
    Full,
    Peft,
    Dora,
    AdaLora,
    Hira,
)


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
        raise AdapterError(f"unknown adapter {name!r}{nearest(name, names())}")
    return _registry()[name]


def hyperparameters(name: str) -> list[str]:
    """The keys that `create(name, …)` takes. Raises AdapterError for an unknown adapter."""
    return [field.name for field in fields(_known(name)) if field.init]


def version(name: str) -> int:
    """The declared version of an adapter's behaviour."""
    return _known(name).version


def create(name: str, **values: Any) -> Adapter:
    """An adapter by its registered name. Raises AdapterError for an unknown name or key, a missing
    one, and for values out of range."""
    kind = _known(name)
    for key in values:
        if key not in hyperparameters(name):
            raise AdapterError(f"{name} has no hyperparameter {key!r}{nearest(key, hyperparameters(name))}")
    for field in fields(kind):
        needed = field.init and field.default is MISSING and field.default_factory is MISSING
        if needed and field.name not in values:
            raise AdapterError(f"{name} needs the hyperparameter {field.name!r}")
    return kind(**values)
