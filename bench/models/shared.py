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
from functools import cached_property
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from rankbench.adapters import Adapter
from rankbench.bench.cpu.dropout import use_cheap_dropout
from rankbench.bench.models.build import Loaded, draw, load, load_headed
from rankbench.bench.models.names import identity, is_random
from rankbench.bench.models.sources import Source, read_again, sources
from rankbench.bench.models.weights import local_folder
from rankbench.bench.seeds import stream
from rankbench.bench.suite import Model
from rankbench.tasks import Head, Task


class _Key(NamedTuple):
    model: Model
    contents: str
    head: Head
    device: torch.device


@dataclass
class _Shared:
    """The one model that a process keeps."""

    key: _Key
    loaded: Loaded
    """Never lent itself; what is fresh in it is anything."""
    lent: weakref.ref[nn.Module] | None = None
    moved: set[str] = field(default_factory=set)
    """Names of parameters that have to be read again."""

    @cached_property
    def sources(self) -> dict[str, Source]:
        """Where they stand; empty for a model that is not in files."""
        folder = None if is_random(self.key.model) else local_folder(self.key.model)
        return sources(self.loaded.model, self.key.model, folder) if folder else {}


_shared: _Shared | None = None


def load_model(model: Model, task: Task, seed: int, device: torch.device | None = None) -> nn.Module:
    """The pretrained model with the task's head, or the task's own model, ready for the shared loop. With a
    device a pretrained one is borrowed (`borrow`) and lies there; else it is the caller's, in main memory.
    """
    if task.head.kind == "own" or device is None:
        forget()
        own = task.head.kind == "own"
        loaded = _built(task, seed) if own else load_headed(model, task.head, seed)
    else:
        loaded = borrow(model, task.head, seed, device)
    use_cheap_dropout(loaded)
    return loaded


def _built(task: Task, seed: int) -> nn.Module:
    """The task's own model, which may draw from the global generator: the same for the same seed."""
    with torch.random.fork_rng():
        torch.manual_seed(stream(seed, "model"))
        return task.build_model(seed)


def borrow(model: Model, head: Head, seed: int, device: torch.device | str) -> PreTrainedModel:
    """The process's one load of a model, bit by bit as `load_headed` gives it: a fresh head follows the seed.

    It is to be given back (`give_back`) before the next one borrows; of one that was not, as where a run
    failed, nothing is known, and it is loaded anew. Another model, or one with another head, takes its place.
    Raises as `load_headed` does.
    """
    global _shared
    key = _Key(model, identity(model), head, torch.device(device))
    if _shared is None or _shared.key != key or _shared.lent is not None or not _restored(_shared):
        forget()
        _shared = _Shared(key, load(model, head, seed, device))
    lent = Loaded(_around_the_weights_of(_shared.loaded.model), _shared.loaded.fresh)
    draw(lent, seed)
    _shared.lent = weakref.ref(lent.model)
    return lent.model


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


def make_room(model: Model, head: Head) -> None:
    """Let go of the model that is kept where the next borrower wants another, or it was not given back: its
    memory is not that borrower's."""
    if _shared is None:
        return
    if _shared.lent is not None or (_shared.key.model, _shared.key.head) != (model, head):
        forget()
        gc.collect()  # layers hang on each other, and hold its weights


def forget() -> None:
    """Let go of the model that is kept, so that its memory is free for what comes next."""
    global _shared
    if _shared is not None:
        device, _shared = _shared.key.device, None
        _collect(device)


def _collect(device: torch.device) -> None:
    """What borrowers have left: their layers hang on each other, and hold the weights that they have changed.
    In main memory, where a collection takes longer than a load, that is left to Python."""
    if device.type != "cpu":
        gc.collect()
        torch.cuda.empty_cache()


def _around_the_weights_of(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of its modules, buffers and configuration, with parameters of its own in the same memory."""
    return copy.deepcopy(model, {id(parameter): _alias(parameter) for parameter in model.parameters()})


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    if not parameter.is_floating_point():
        return parameter  # packed: of a class of its own, and never trained
    alias = nn.Parameter(parameter.detach(), parameter.requires_grad)
    vars(alias).update(vars(parameter))  # the loader's mark, without which it would be drawn anew
    return alias


def _restored(shared: _Shared) -> bool:
    """Read again what has moved; False where some of it is not in the files as it is held: drawn at random,
    put together from several tensors, or of a head that is kept in another precision."""
    model, fresh = shared.loaded
    names = {name for name in shared.moved if not name.startswith(tuple(f"{each}." for each in fresh))}
    if names - shared.sources.keys():
        return False
    _collect(shared.key.device)
    read_again(model, names, shared.sources)
    shared.moved.clear()
    return True
