"""What AdaLoRA (Zhang et al. 2023, arXiv 2303.10512) needs beside its layers, under the shared loop.

PEFT adds the orthogonality penalty to the loss in a wrapper of the whole model, which is not used:
it is computed here, batched, with PEFT's formula. Steps are counted from 1 for its schedule.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft.tuners.adalora import AdaLoraModel
from torch import Tensor, nn

ADAPTER = "default"
"""PEFT's name for the one adapter of a model."""

_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def penalty(tuner: AdaLoraModel, layers: Iterable[Any]) -> Tensor:
    """The weighted mean of ‖F Fᵀ - I‖ over the factors F of all layers."""
    pairs: Any = [(layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]) for layer in layers]
    grams = torch.stack([gram for right, left in pairs for gram in (right @ right.t(), left.t() @ left)])
    distances = torch.linalg.matrix_norm(grams - torch.eye(grams.shape[-1]).to(grams))
    weighted: Tensor = _config(tuner).orth_reg_weight * distances.mean()
    return weighted


def ranks(layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """Layer name -> singular values left."""
    by_layer: Any = layers.values()
    left = torch.stack([layer.lora_E[ADAPTER].count_nonzero() for layer in by_layer])
    return dict(zip(layers, left.tolist(), strict=True))


def state(tuner: AdaLoraModel) -> dict[str, Any]:
    """A copy of the smoothed importance and the rank pattern."""
    allocator = tuner.rankallocator
    return {
        "rank_pattern": copy.deepcopy(_config(tuner).rank_pattern),
        **{key: {n: t.clone() for n, t in getattr(allocator, key).items()} for key in _IMPORTANCE},
    }


def load_state(tuner: AdaLoraModel, model: nn.Module, saved: dict[str, Any]) -> None:
    """Take back what `state` gave, on the devices of the model's parameters."""
    _config(tuner).rank_pattern = copy.deepcopy(saved["rank_pattern"])
    parameters = dict(model.named_parameters())
    for key in _IMPORTANCE:
        restored = {name: value.to(parameters[name].device, copy=True) for name, value in saved[key].items()}
        setattr(tuner.rankallocator, key, restored)


def _config(tuner: AdaLoraModel) -> Any:
    return tuner.peft_config[ADAPTER]
