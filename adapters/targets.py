"""Which layers a user's `targets` name, and which modules are a task's head.

Every entry must name at least one layer that can be adapted: a misspelt one, one inside the head,
a module that is no linear layer or a bare parameter is refused with the reason, never left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.errors import AdapterError, nearest

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Match = Callable[[str], bool]


def task_head(model: nn.Module) -> list[str]:
    """The modules outside the backbone of a transformers model with a task's head, in its order.

    A language model's output layer is no such head, and in a model of another kind none can be told
    from its body: none then.
    """
    # Imported here: it takes a second, and only a model that is built needs it.
    from transformers import PreTrainedModel

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


def select(
    model: nn.Module, targets: str | Sequence[str], *, heads: Iterable[str] = ()
) -> tuple[dict[str, nn.Linear | Conv1D], dict[str, int]]:
    """The layers that `targets` names, in the model's order, and how many each entry names.

    PEFT's semantics: a list of names or their endings, or one regular expression for whole names,
    which counts as one entry. `heads`: modules that are no targets. Raises AdapterError as
    `Adapter.attach` says.
    """
    head = {id(p) for name in heads for p in model.get_submodule(name).parameters()}
    if isinstance(targets, str):
        try:
            found = {part: _named(model, part, match, head) for part, match in _alternatives(targets)}
        except re.error as error:
            raise AdapterError(f"targets {targets!r} is no regular expression: {error}") from None
    else:
        found = {entry: _named(model, entry, _ending(entry), head) for entry in _checked(targets)}
    chosen = {name for named in found.values() for name in named}
    if not chosen:
        raise AdapterError(f"there are no targets; {_endings(model)}")
    selected: dict[str, nn.Linear | Conv1D] = {
        name: module
        for name, module in model.named_modules()
        if name in chosen and isinstance(module, (nn.Linear, Conv1D))
    }
    _refuse_tied(model, selected)
    counts = {entry: len(named) for entry, named in found.items()}
    return selected, {targets: len(selected)} if isinstance(targets, str) else counts


def _checked(targets: object) -> Iterable[str]:
    if not isinstance(targets, Collection) or not all(isinstance(entry, str) for entry in targets):
        raise AdapterError(f"targets must be names of layers or one regular expression, not {targets!r}")
    return targets


def _ending(entry: str) -> Match:
    return lambda name: ends_with(name, entry)


def _whole(pattern: str) -> Match:
    expression = re.compile(pattern)
    return lambda name: expression.fullmatch(name) is not None


def _alternatives(pattern: str) -> Iterator[tuple[str, Match]]:
    """Each alternative of a regular expression, and what it matches where it stands alone: one that
    matches nothing is as good as a misspelt entry of a list. Those inside a look-around or a repeated
    group depend on each other and are left together."""
    whole = _whole(pattern)
    groups = _groups(pattern)
    for group in groups:
        for left, right in group:
            cuts = [
                (others[0][0], kept[0], kept[1], others[-1][1])
                for others in groups
                for kept in others
                if kept[0] <= left and right <= kept[1]
            ]
            dropped = {i for a, b, c, d in cuts for i in (*range(a, b), *range(c, d))}
            if left < right:
                alone = "".join(letter for i, letter in enumerate(pattern) if i not in dropped)
                yield pattern[left:right], _whole(alone)
    if not groups:
        yield pattern, whole


def _groups(pattern: str) -> list[list[tuple[int, int]]]:
    """Start and end of the alternatives of each group that has some, the whole expression among them."""
    opened: list[list[int]] = [[0]]
    groups: list[list[tuple[int, int]]] = []
    bound: list[tuple[int, int]] = []
    token = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:P<\w+>|<?[=!]|:))?|[|)]")
    for found in token.finditer(f"{pattern})"):
        text = found[0]
        if text.startswith("("):
            opened.append([found.end()])
        elif text == "|":
            opened[-1].append(found.end())
        elif text == ")":
            starts = opened.pop()
            if pattern[: starts[0]].endswith(("?=", "?!", "?<=", "?<!")) or (
                pattern[found.end() : found.end() + 1] in ("*", "+", "{")
            ):
                bound.append((starts[0], found.start()))
            elif len(starts) > 1:
                ends = [start - 1 for start in starts[1:]] + [found.start()]
                groups.append(list(zip(starts, ends, strict=True)))
    return [g for g in groups if not any(a <= g[0][0] and g[-1][1] <= b for a, b in bound)]


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
        elif reason := _unfit(model, name, module):
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
    known = sorted({name.rpartition(".")[2] for name, _ in _linears(model)})
    last = (re.findall(r"\w+", entry) or [entry])[-1]
    close = difflib.get_close_matches(last, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise AdapterError(f"target {entry!r} matches no layer; {hint}{_endings(model)}")


def _unfit(model: nn.Module, name: str, module: nn.Module) -> str | None:
    """Why a module cannot be adapted, if it cannot."""
    kind = type(module)
    if not isinstance(module, (nn.Linear, Conv1D)):
        shown = f"{kind.__module__}.{kind.__name__}" if kind.__name__ == "Linear" else kind.__name__
        return f"is a {shown}; only Linear and Conv1D can be adapted"
    weight = module.weight
    if type(weight) is not nn.Parameter or weight.dtype not in FLOATS:
        return f"is a {kind.__name__} with a quantised weight ({type(weight).__name__}, {weight.dtype})"
    if kind.forward not in (nn.Linear.forward, Conv1D.forward) and not _multiplies(kind):
        return f"is a {kind.__name__}, which computes more than a Linear's product"
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
        return "is a part of MultiheadAttention, which reads its weight without calling it"
    return None


def _multiplies(kind: type[nn.Module]) -> bool:
    """Whether a class made like Linear, as Falcon's is, computes its product: seen on a small layer, since
    a model of shapes computes nothing."""
    if not issubclass(kind, nn.Linear) or kind.__init__ is not nn.Linear.__init__:
        return False
    x = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]], device="cpu")
    small = kind(3, 2, device="meta").to_empty(device="cpu")
    for parameter in small.parameters():
        parameter.data = torch.linspace(0.1, 0.7, parameter.numel(), device="cpu").view_as(parameter)
    try:
        found = small(x)
    except Exception:  # it may ask for anything
        return False
    product = nn.functional.linear(x, small.weight, small.bias)
    return isinstance(found, torch.Tensor) and found.shape == product.shape and torch.allclose(found, product)


def _linears(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((n, m) for n, m in model.named_modules() if isinstance(m, (nn.Linear, Conv1D)))


def _endings(model: nn.Module) -> str:
    endings = sorted({name.rpartition(".")[2] for name, _ in _linears(model)})
    return f"the model's linear layers end in {', '.join(endings)}"


def _refuse_tied(model: nn.Module, selected: dict[str, nn.Linear | Conv1D]) -> None:
    """One weight under two names would be adapted in one place and moved in both."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for name, module in selected.items():
        shared = owners[id(module.weight)]
        if len(shared) > 1:
            others = ", ".join(other for other in shared if other != f"{name}.weight")
            raise AdapterError(
                f"target {name} shares its weight with {others}; "
                "leave it out of the targets or untie the model"
            )
