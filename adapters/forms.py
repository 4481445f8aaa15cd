"""What PEFT loads, made of an adapter that was trained here.

In PEFT's names `lora_B` (out, r) is our A and `lora_A` (r, in) our Bᵀ; it adds lora_alpha / r · lora_B lora_A
to a layer's weight, r being the layer's own rank (`rank_pattern`). So do vLLM and llama.cpp. The latter reads
neither `use_rslora` nor `alpha_pattern`: neither is written, scales go into `lora_alpha` and `lora_B`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

PREFIX = "base_model.model."
"""Before a model's own names in PEFT's files."""


@dataclass(frozen=True)
class PeftForm:
    """An adapter's increments as PEFT keeps them; heads are not among them."""

    config: Any
    """PEFT's configuration object."""
    tensors: dict[str, Tensor]
    """By their names in PEFT's file."""


class Factors(NamedTuple):
    """The increment scale · a bᵀ of one layer: a (out, r), b (in, r)."""

    a: Tensor
    b: Tensor
    scale: float


def lora_form(model: nn.Module, layers: Mapping[str, Factors]) -> PeftForm:
    """Layers of one scale as a plain LoRA, factors as they are where ranks are equal. A layer of rank 0 is
    none of its targets."""
    from peft import LoraConfig  # slow, and only an export needs it

    layers = {name: factors for name, factors in layers.items() if factors.a.shape[1]}
    ranks = {name: factors.a.shape[1] for name, factors in layers.items()}
    rank = max(ranks.values(), default=1)
    alpha = rank * next((factors.scale for factors in layers.values()), 1.0)
    config = LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,  # type: ignore[arg-type]
        rank_pattern={name: own for name, own in ranks.items() if own != rank},
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    config.target_modules = named(model, layers)  # it would make a set of a list, without an order
    tensors: dict[str, Tensor] = {}
    for name, (a, b, _) in layers.items():
        share = ranks[name] / rank
        tensors[f"{PREFIX}{name}.lora_A.weight"] = b.detach().t()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = a.detach() if share == 1 else a.detach() * share
    return PeftForm(config, tensors)


def named(model: nn.Module, layers: Collection[str]) -> list[str]:
    """These layers as `target_modules`: by the last parts of their names where no other module has one of
    them, otherwise by their whole names."""
    ends = {name.rpartition(".")[2] for name in layers}
    alike = {name for name, _ in model.named_modules() if name.rpartition(".")[2] in ends}
    return sorted(ends if alike == set(layers) else layers)
