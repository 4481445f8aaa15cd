"""Which modules are a task's head: trained whole beside any adapter, and no targets."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rankbench.adapters.errors import AdapterError, nearest


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
