"""The layers that each entry of a user's `targets` names, and the modules that are a task's head.

Every entry must name at least one layer that can be adapted: a misspelt one, one inside the head,
a module that is no linear layer or a bare parameter is refused with the reason, never left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial

from torch import nn

from rankbench.adapters.errors import AdapterError, nearest
from rankbench.adapters.layers import Linear
from rankbench.adapters.targets.alternatives import Match, alternatives
from rankbench.adapters.targets.refusals import refuse_tied, unfit


def select(
    model: nn.Module, targets: str | Sequence[str], *, heads: Iterable[str] = ()
) -> tuple[dict[str, Linear], dict[str, int]]:
    """The layers that `targets` names, in the model's order, and how many each entry names.

    A regular expression counts as one entry. `heads`: modules that are no targets. Targets, and the
    AdapterErrors that are raised, are as `Adapter.attach` says.
    """
    head = {id(p) for name in heads for p in model.get_submodule(name).parameters()}
    found = {entry: _named(model, entry, match, head) for entry, match in _entries(targets)}
    chosen = {name for named in found.values() for name in named}
    if not chosen:
        raise AdapterError(f"there are no targets; {_told(model)}")
    selected = {name: module for name, module in _linears(model) if name in chosen}
    refuse_tied(model, selected)
    counts = {entry: len(named) for entry, named in found.items()}
    return selected, {targets: len(selected)} if isinstance(targets, str) else counts


def _entries(targets: object) -> Iterator[tuple[str, Match]]:
    if isinstance(targets, str):
        try:
            yield from alternatives(targets)
        except re.error as error:
            raise AdapterError(f"targets {targets!r} is no regular expression: {error}") from None
    elif isinstance(targets, Collection) and all(isinstance(entry, str) for entry in targets):
        yield from ((entry, partial(ends_with, ending=entry)) for entry in targets)
    else:
        raise AdapterError(f"targets must be names of layers or one regular expression, not {targets!r}")


def _named(model: nn.Module, entry: str, match: Match, head: set[int]) -> list[str]:
    """The layers that one entry names. Raises AdapterError for anything else that it names."""
    layers: list[str] = []
    inside_head = False
    for name, module in model.named_modules():
        if not name or not match(name):
            continue
        own = [id(parameter) for parameter in module.parameters()]
        if own and head.issuperset(own):
            inside_head = True
        elif reason := unfit(model, name, module):
            raise AdapterError(f"target {name} {reason}; leave it out")
        else:
            layers.append(name)
    for name, parameter in model.named_parameters():
        path, _, short = name.rpartition(".")
        # A regular expression for layers may well match their weights' names too.
        if match(name) and (ends_with(name, entry) or short not in ("weight", "bias")):
            owner = type(model.get_submodule(path)).__name__
            what = "the experts' weights in one" if parameter.ndim > 2 else "no layer"
            raise AdapterError(
                f"target {entry!r} names {name}, a parameter of {owner} of shape {tuple(parameter.shape)} "
                f"({what}); only Linear and Conv1D layers can be adapted, name them so that it is left out"
            )
    if layers:
        return layers
    if inside_head:
        raise AdapterError(
            f"target {entry!r} matches no layer outside the task's head, which is trained whole beside "
            f"any adapter; leave it out"
        )
    last = (re.findall(r"\w+", entry) or [entry])[-1]
    close = difflib.get_close_matches(last, _endings(model), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    if close == [entry]:
        hint = f"a text is a regular expression over whole names, [{entry}] names layers by their endings; "
    raise AdapterError(f"target {entry!r} matches no layer; {hint}{_told(model)}")


def _linears(model: nn.Module) -> Iterator[tuple[str, Linear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Linear))


def _endings(model: nn.Module) -> list[str]:
    return sorted({name.rpartition(".")[2] for name, _ in _linears(model)})


def _told(model: nn.Module) -> str:
    return f"the model's linear layers end in {', '.join(_endings(model))}"


def task_head(model: nn.Module) -> list[str]:
    """The modules outside the backbone of a transformers model with a task's head, in its order; none where
    that is a language model's output layer, or where a model of another kind has no backbone to tell."""
    from transformers import PreTrainedModel  # takes a second, and only a model that is built needs it

    if not isinstance(model, PreTrainedModel) or model.get_output_embeddings() is not None:
        return []
    backbone = model.base_model
    inside = {id(module) for module in backbone.modules()}
    owners = {name: module for name, module in model.named_modules() if [*module.parameters(recurse=False)]}
    return [] if backbone is model else [name for name, module in owners.items() if id(module) not in inside]


def named_heads(model: nn.Module, heads: str | Sequence[str]) -> list[str]:
    """The modules that are named so, or end so, in the model's order. Raises AdapterError for an entry
    that names none: that head would stay as it is."""
    names = [name for name, _ in model.named_modules()]
    asked = [heads] if isinstance(heads, str) else heads
    for entry in asked:
        if not any(ends_with(name, entry) for name in names):
            known = [name for name, _ in model.named_children()]
            raise AdapterError(f"heads: {entry!r} is no module of the model{nearest(entry, known)}")
    return [name for name in names if any(ends_with(name, entry) for entry in asked)]


def ends_with(name: str, ending: str) -> bool:
    """Whether a dotted name is `ending`, or ends in it after a dot."""
    return name == ending or name.endswith(f".{ending}")
