"""One load of a pretrained model for all that use it in turn in a process.

What is lent is a copy of the model's modules around the weights themselves: what a borrower does to modules,
hooks and configuration stays with its copy. Of the weights, those that it has changed are known when it gives
the model back, and are read again from the model's files before the next one has it.
"""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from rankbench.adapters import Adapter
from rankbench.adapters.targets import task_head
from rankbench.bench.models.build import heads, load_headed
from rankbench.bench.models.fresh import redraw
from rankbench.bench.models.names import identity, is_random
from rankbench.bench.seeds import stream
from rankbench.bench.suite import Model
from rankbench.tasks import Head


@dataclass
class _Shared:
    """The one model that a process keeps."""

    key: tuple[Model, str, Head, torch.device]
    model: PreTrainedModel
    """Never lent itself."""
    fresh: list[str]
    """Its modules that every borrower has drawn anew."""
    moved: set[str] = field(default_factory=set)
    """Names of parameters that have to be read again."""
    lent: weakref.ref[nn.Module] | None = None


_shared: _Shared | None = None


def borrow(model: Model, head: Head, seed: int, device: torch.device | str) -> PreTrainedModel:
    """The process's one load of a model, bit by bit as `load_headed` gives it: a fresh head follows the seed.

    It is to be given back (`give_back`) before the next one borrows; of one that was not, as where a run
    failed, nothing is known, and it is loaded anew. Another model, or one with another head, takes its place.
    Raises as `load_headed` does.
    """
    global _shared
    device = torch.device(device)
    key = model, identity(model), head, device
    if _shared is None or _shared.key != key or _shared.lent is not None or not _restored(_shared, seed):
        forget()
        loaded: Any = load_headed(model, head, seed)
        _shared = _Shared(key, loaded.to(device), _drawn_anew(loaded, model))
    lent = _around_the_weights_of(_shared.model)
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed, "head"))
        redraw(lent, _shared.fresh)
    _shared.lent = weakref.ref(lent)
    return lent


def give_back(borrowed: Adapter | nn.Module) -> None:
    """Take an adapter off the model that was borrowed for it (`Adapter.detach`), or the model itself where
    nothing was attached and no weight has moved. A model that is not lent is left alone: a task's own, one
    whose weights are in parts."""
    model = borrowed.model if isinstance(borrowed, Adapter) else borrowed
    if _shared is None or _shared.lent is None or _shared.lent() is not model:
        return
    if isinstance(borrowed, Adapter):
        _shared.moved.update(borrowed.detach())
    _shared.lent = None


def forget() -> None:
    """Let go of the model that is kept, so that its memory is free for what comes next."""
    global _shared
    if _shared is None:
        return
    _shared = None
    gc.collect()  # borrowers hang on themselves: by a wrapped `forward`, by PEFT's tuner
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _drawn_anew(loaded: PreTrainedModel, model: Model) -> list[str]:
    """Modules whose weights follow a run's seed."""
    if is_random(model):
        return []
    kept = task_head(loaded) if model.head == "keep" else []
    return [name for name in heads(loaded, model) if name not in kept]


def _around_the_weights_of(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of its modules, buffers and configuration, with parameters of its own in the same memory."""
    return copy.deepcopy(model, {id(parameter): _alias(parameter) for parameter in model.parameters()})


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    if not parameter.is_floating_point():
        return parameter  # packed: of a class of its own, and never trained
    alias = nn.Parameter(parameter.detach(), parameter.requires_grad)
    vars(alias).update(vars(parameter))  # the loader's mark, without which it would be drawn anew
    return alias


def _restored(shared: _Shared, seed: int) -> bool:
    """Read again what has moved, tensor by tensor, from files that are mapped: as a load on the CPU leaves
    them. False where there are none, or where their weights are packed on loading."""
    inside = tuple(f"{name}." for name in shared.fresh)
    names = [name for name in shared.moved if not name.startswith(inside)] if inside else [*shared.moved]
    model, _, head, _ = shared.key
    if names and is_random(model):
        return False
    gc.collect()  # the last borrower, which holds what it has changed
    mapped = load_headed(model, head, seed) if names else shared.model
    for name in names:
        kept = shared.model.get_parameter(name)
        kept.data = mapped.get_parameter(name).data.to(kept.device, kept.dtype)
    shared.moved.clear()
    return True
