"""LoRA from factors of the frozen weight, which gives them up: PEFT's starts that read the weight alone.

With s = alpha / r, A (out, r), B (in, r), W (out, in) = U Σ Vᵀ = Q R, of which W − s A Bᵀ stays frozen:

    pissa  A = Uᵣ √(Σᵣ / s), B = Vᵣ √(Σᵣ / s)     the r largest      Meng et al. 2024, arXiv 2404.02948
    olora  A = Qᵣ, Bᵀ = Rᵣ                        the first r        Büyükakyüz 2024, arXiv 2406.01775

The model starts as it was, up to rounding; what is left of W belongs to the state. Size: LoRA's, r (in +
out). Factors are computed in float32, also of a weight in float64. PEFT's OLoRA has no `Conv1D` (GPT-2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, nn
from typing_extensions import override

from rankbench.adapters.base import Range
from rankbench.adapters.errors import AdapterError
from rankbench.adapters.layers import Linear
from rankbench.adapters.peft.injection import ADAPTER, tuner_layer
from rankbench.adapters.peft.presets import LoraByPeft
from rankbench.adapters.peft.rates import LARGE_FACTORS


@dataclass(kw_only=True)
class _FromTheWeight(LoraByPeft):
    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        exact = {name: layer for name, layer in selected.items() if layer.weight.dtype == torch.float64}
        weights = {name: layer.weight.data for name, layer in exact.items()}
        for layer in exact.values():  # PEFT refuses to factorize these
            layer.weight.data = layer.weight.data.float()
        try:
            super().install(model, selected, generator)
        finally:
            for name, layer in exact.items():
                layer.weight.data = weights[name]
        for name, layer in exact.items():
            wrapped = tuner_layer(self.layers[name]).double()
            layer.weight.data = weights[name] - wrapped.get_delta_weight(ADAPTER).detach()


@dataclass(kw_only=True)
class Pissa(_FromTheWeight):
    """PiSSA: LoRA on the r largest singular directions. The paper has alpha = rank. `iterations`: of a
    randomised decomposition; with 0 it is exact."""

    name: ClassVar[str] = "pissa"
    space: ClassVar[Mapping[str, Range]] = LARGE_FACTORS
    alpha: float = 8.0
    iterations: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 0:
            raise AdapterError(f"iterations must be a whole number, not {self.iterations!r}")

    @override
    def peft_settings(self) -> dict[str, Any]:
        start = f"pissa_niter_{self.iterations}" if self.iterations else "pissa"
        return {**super().peft_settings(), "init_lora_weights": start}


@dataclass(kw_only=True)
class Olora(_FromTheWeight):
    """OLoRA: LoRA from the QR factorization of the weight."""

    name: ClassVar[str] = "olora"
    space: ClassVar[Mapping[str, Range]] = LARGE_FACTORS

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {**super().peft_settings(), "init_lora_weights": "olora"}
