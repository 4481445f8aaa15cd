"""Methods of fine-tuning behind one contract: `create(name, **hyperparameters)`, then `attach` to a model.

Knows nothing of tasks or runs. Packages of others register by an entry point of the group
`rankbench.adapters` that names an `Adapter` subclass, a Python file by what it calls `ADAPTERS`
(docs/add-an-adapter.md).
"""

from __future__ import annotations

import importlib
from dataclasses import MISSING, fields
from typing import Any

from rankbench.adapters.base import Adapter
from rankbench.adapters.errors import AdapterError, nearest
from rankbench.bench.plugins import Others

__all__ = ["OTHERS", "Adapter", "AdapterError", "create", "hyperparameters", "kind", "names", "version"]

GROUP = "rankbench.adapters"
BUILT_IN = {
    "lora": "rankbench.adapters.lora:Lora",
    "rslora": "rankbench.adapters.lora:RsLora",
    "lora-plus": "rankbench.adapters.lora_plus:LoraPlus",
    "lora-fa": "rankbench.adapters.lora_fa:LoraFa",
    "reflora": "rankbench.adapters.reflora:RefLora",
    "lora2": "rankbench.adapters.lora2.adapter:Lora2",
    "scalora-scalar": "rankbench.adapters.scalora.variants:ScaLoraScalar",
    "scalora": "rankbench.adapters.scalora.adapter:ScaLora",
    "scalora-i": "rankbench.adapters.scalora.variants:ScaLoraIntermittent",
    "scalora-nnls": "rankbench.adapters.scalora.variants:ScaLoraNnls",
    "scalora-svd": "rankbench.adapters.scalora.svd:ScaLoraSvd",
    "full": "rankbench.adapters.full:Full",
    "peft": "rankbench.adapters.peft.presets:Peft",
    "dora": "rankbench.adapters.peft.presets:Dora",
    "adalora": "rankbench.adapters.peft.presets:AdaLora",
    "hira": "rankbench.adapters.peft.presets:Hira",
    "pissa": "rankbench.adapters.peft.starts:Pissa",
    "olora": "rankbench.adapters.peft.starts:Olora",
    "lora-ga": "rankbench.adapters.peft.data_starts:LoraGa",
    "eva": "rankbench.adapters.peft.data_starts:Eva",
    "randlora": "rankbench.adapters.peft.increments:RandLora",
    "vera": "rankbench.adapters.peft.increments:Vera",
    "oft": "rankbench.adapters.peft.rotations:Oft",
    "hra": "rankbench.adapters.peft.rotations:Hra",
    "miss": "rankbench.adapters.peft.increments:Miss",
    "delora": "rankbench.adapters.peft.increments:DeLora",
    "gralora": "rankbench.adapters.peft.increments:GraLora",
    "shira": "rankbench.adapters.peft.increments:Shira",
}
"""Places, not classes: an adapter's file is imported when it is first asked for. PEFT is slow to import."""


def _fault(found: Any) -> str:
    if not (isinstance(found, type) and issubclass(found, Adapter)):
        return "is no subclass of adapters.Adapter"
    if not hasattr(found, "name"):
        return "has no name; give it one, as in name: ClassVar[str] = 'mine'"
    if not (isinstance(found.example, dict) and all(isinstance(key, str) for key in found.example)):
        return f"has the example {found.example!r}; it is hyperparameters by name, as {{'rank': 2}}"
    return ""


OTHERS: Others[type[Adapter]] = Others("adapter", GROUP, lambda: BUILT_IN, _fault, AdapterError)
"""Of packages and of plug-in files."""


def names() -> list[str]:
    """All registered adapters."""
    return [*BUILT_IN, *OTHERS.names()]


def kind(name: str) -> type[Adapter]:
    """The class of a registered adapter. Raises AdapterError for an unknown name, and for one of another
    package that cannot be loaded."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        own: type[Adapter] = getattr(importlib.import_module(module), attribute)
        return own
    if name not in OTHERS.names():
        raise AdapterError(f"unknown adapter {name!r}{nearest(name, names())}")
    return OTHERS.load(name)


def hyperparameters(name: str) -> list[str]:
    """The keys that `create(name, …)` takes. Raises AdapterError for an unknown adapter."""
    return [field.name for field in fields(kind(name)) if field.init]


def version(name: str) -> int:
    """The declared version of an adapter's behaviour."""
    return kind(name).version


def create(name: str, **values: Any) -> Adapter:
    """An adapter by its registered name. Raises AdapterError for an unknown name or key, a missing
    one, and for values out of range."""
    known = {field.name: field for field in fields(kind(name)) if field.init}
    for key in values:
        if key not in known:
            raise AdapterError(f"{name} has no hyperparameter {key!r}{nearest(key, list(known))}")
    for key, field in known.items():
        if key not in values and field.default is MISSING and field.default_factory is MISSING:
            raise AdapterError(f"{name} needs the hyperparameter {key!r}")
    return kind(name)(**values)
