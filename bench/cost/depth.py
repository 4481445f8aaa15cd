"""A model of many like layers is counted twice with few: every place of a run needs as much more with each
layer as with the one before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_iter
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from rankbench.bench.cost.counting import Place


def layers_of(model: nn.Module) -> int:
    """How many a model of `transformers` has; 0 of another."""
    return int(model.config.get_text_config().num_hidden_layers) if isinstance(model, PreTrainedModel) else 0


def with_layers(config: Any, count: int) -> Any:
    """The configuration of a model that differs in this alone."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = count
    if kinds is not None:
        text.layer_types = kinds[:count]
    return config


def along(few: Mapping[Place, int], more: Mapping[Place, int], extra: int) -> dict[Place, int]:
    """By two counts of bytes a place, the second with one layer more, that with so many more than the first.
    Between the first layer and the last one memory rises or falls evenly: nothing is highest there."""
    return {place: held + (more[place] - held) * extra for place, held in few.items()}


def mark_blocks(model: nn.Module, count: int, at: Callable[..., None]) -> None:
    """Have `at` told where among so many like layers the work is, in either direction."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = next((found for found in lists if len(found) == count and _is_layer(found[0])), None)
    for i, block in enumerate(blocks or ()):
        names = [
            name for name, place in (("the first layer", 0), ("the last layer", count - 1)) if i == place
        ]
        _mark(block, names or ["between"], "the head" if i == count - 1 else "between", at)


def _is_layer(block: nn.Module) -> bool:
    return isinstance(block, GradientCheckpointingLayer)


def _mark(block: nn.Module, places: Sequence[str], after: str, at: Callable[..., None]) -> None:
    def begins(*_: Any) -> None:
        at(*(f"forward, {place}" for place in places))

    def goes_back(_: Any) -> None:
        at(*(f"backward, {place}" for place in places))

    def ends(_: nn.Module, _given: Any, output: Any) -> None:
        at(after)
        for made in tree_iter(output):
            if isinstance(made, Tensor) and made.grad_fn is not None:
                made.grad_fn.register_prehook(goes_back)

    block.register_forward_pre_hook(begins)
    block.register_forward_hook(ends)
