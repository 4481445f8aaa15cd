"""Target layers that the model never calls: beside them an adapter learns nothing, and is counted all the
same. So is a tower for images where there are texts, or a weight that the model's code reads by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from rankbench.adapters import Adapter
from rankbench.bench.suite import ConfigError

SHOWN = 2
"""Layers that a message names."""


@contextmanager
def calls() -> Iterator[set[nn.Module]]:
    """Within: the modules that are called. No module of a model carries a hook for it: some compute
    otherwise then."""
    called: set[nn.Module] = set()
    handle = register_module_forward_hook(lambda module, _inputs, _output: called.add(module))
    try:
        yield called
    finally:
        handle.remove()


def reached(model: nn.Module, called: set[nn.Module]) -> set[str]:
    """The names of the modules that were called, or a module in them was."""
    names = (name for name, module in model.named_modules(remove_duplicate=False) if module in called)
    return {path for name in names for path in _paths(name)}


def refuse_uncalled(adapter: Adapter, there: set[str], experiment: str) -> None:
    """Raise ConfigError where the model on its way through real items, which `reached` these modules, left
    out layers that the adapter has replaced.

    A member of a list beside others that were reached may be an expert that the router had no text for, and
    passes; so does a block of a list that is never run. What a model calls in evaluation but reads by itself
    in training, as some fused kernels do, is not seen either.
    """
    replaced = [name for name, layer in adapter.layers.items() if layer is not adapter.plain(name)]
    never = [name for name in replaced if not (name in there or _one_of_several(adapter.model, name, there))]
    if never:
        more = f" and {len(never) - SHOWN} more" if never[SHOWN:] else ""
        raise ConfigError(
            f"{experiment}: the model computes without calling {', '.join(never[:SHOWN])}{more} "
            f"({len(never)} of {len(adapter.layers)} target layers): an adapter would learn nothing there; "
            "name narrower targets"
        )


def _one_of_several(model: nn.Module, name: str, there: set[str]) -> bool:
    """Whether the largest module around the layer that was not reached is a member of a list."""
    parent = next(outer for outer, inner in pairwise(_paths(name)) if inner not in there)
    return isinstance(model.get_submodule(parent), nn.ModuleList | nn.ModuleDict)


def _paths(name: str) -> list[str]:
    """From the model itself, "", to the module of this name."""
    parts = name.split(".") if name else []
    return [".".join(parts[:i]) for i in range(len(parts) + 1)]
