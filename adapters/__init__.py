"""Pluggable adapters: `create(name, **hyperparameters)`, then `attach` to a model.

Others register by an entry point of the group `rankbench.adapters` that names an `Adapter` subclass.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rankbench.adapters.base import Adapter, AdapterError, nearest

__all__ = ["Adapter", "AdapterError", "create", "hyperparameters", "names", "package", "version"]

GROUP = "rankbench.adapters"
BUILT_IN = {
    "lora": "rankbench.adapters.lora:Lora",
    "rslora": "rankbench.adapters.lora:RsLora",
    "lora2": "rankbench.adapters.lora2:Lora2",
    "scalora-scalar": "rankbench.adapters.scalora.variants:ScaLoraScalar",
    "scalora": "rankbench.adapters.scalora.variants:ScaLora",
    "scalora-i": "rankbench.adapters.scalora.variants:ScaLoraIntermittent",
    "scalora-nnls": "rankbench.adapters.scalora.variants:ScaLoraNnls",
    "scalora-svd": "rankbench.adapters.scalora.svd:ScaLoraSvd",
    "full": "rankbench.adapters.full:Full",
    "peft": "rankbench.adapters.peft.bridge:Peft",
    "dora": "rankbench.adapters.peft.presets:Dora",
    "adalora": "rankbench.adapters.peft.presets:AdaLora",
    "hira": "rankbench.adapters.peft.presets:Hira",
}
"""Places, not classes: an adapter's file is imported when it is first asked for. PEFT is slow to import."""


@cache
def _registry() -> dict[str, EntryPoint]:
    registry = {name: EntryPoint(name, place, GROUP) for name, place in BUILT_IN.items()}
    for entry in entry_points(group=GROUP):
        registry.setdefault(entry.name, entry)
    return registry


def names() -> list[str]:
    """All registered adapters."""
    return list(_registry())


def _known(name: str) -> type[Adapter]:
    if name not in _registry():
        raise AdapterError(f"unknown adapter {name!r}{nearest(name, names())}")
    entry = _registry()[name]
    try:
        kind = entry.load()
    except Exception as error:  # whatever a module of somebody else's raises
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise AdapterError(f"adapter {name!r} cannot be loaded from {entry.value} ({cause})") from error
    if not (isinstance(kind, type) and issubclass(kind, Adapter)):
        raise AdapterError(f"adapter {name!r}: {entry.value} is no subclass of adapters.Adapter")
    return kind


def hyperparameters(name: str) -> list[str]:
    """The keys that `create(name, …)` takes. Raises AdapterError for an unknown adapter."""
    return [field.name for field in fields(_known(name)) if field.init]


def version(name: str) -> int:
    """The declared version of an adapter's behaviour."""
    return _known(name).version


def package(name: str) -> dict[str, str]:
    """The package that an adapter was registered by, and its version; empty for those that come with
    rankbench."""
    dist = _registry()[name].dist
    return {dist.name: dist.version} if dist else {}


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
