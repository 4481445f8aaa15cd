"""LoRA from factors that read the run's first micro-batches: PEFT's starts, without dropout.

With s = alpha / r, A (out, r), B (in, r):

    lora-ga  from the gradient's singular vectors, G = U Σ Vᵀ     Wang, Yu, Li 2024, arXiv 2407.05000
             A = c U₂ Σ₂, B = V₁ (by default: 1 … r in B, r + 1 … 2r in A), W ← W − s A Bᵀ
    eva      B from the principal components of the layer's       Paischer et al. 2024, arXiv 2410.07170
             inputs, without padding; A = 0

G is the mean over `batches` of the mean loss's gradient by W. Both start as the pretrained model; size:
LoRA's, r (in + out). Where `before_training` is not called both are plain LoRA.

Deviations. LoRA-GA: as in PEFT A has the singular values, with c = out^¼ / √gamma (in^¼ / √gamma of GPT-2's
`Conv1D`, whose weight PEFT reads the other way round there); the paper scales orthonormal A and B alike. EVA:
ranks are not shared out among layers (ρ = 1 in PEFT and paper), so that the size is LoRA's; the components
are those of all `batches`, where PEFT goes round until they have settled.

Both decompositions begin with numbers of chance. They are done in main memory: a GPU would draw others, and
the start would be another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from peft import LoraGAConfig
from peft.utils.incremental_pca import IncrementalPCA
from torch import Generator, Tensor, nn
from typing_extensions import override

from rankbench.adapters.base import FirstBatch, Range
from rankbench.adapters.errors import AdapterError, check_count, check_positive, nearest
from rankbench.adapters.layers import Linear, check_directions
from rankbench.adapters.peft.injection import ADAPTER, tuner_layer
from rankbench.adapters.peft.presets import LoraByPeft
from rankbench.adapters.peft.rates import LARGE_FACTORS

SEED = 42
"""Of the randomised decompositions: PEFT's own, of EVA."""
DIRECTIONS = ("ArB2r", "A2rBr", "ArBr", "random")
SCALES = ("stable", "weight_svd", "gd_scale", "unit")


@dataclass(kw_only=True)
class _FromData(LoraByPeft):
    one_process: ClassVar[str] = "reads the first batches of its own process only"
    batches: int = 8
    """Micro-batches that are read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(batches=self.batches)


@dataclass(kw_only=True)
class LoraGa(_FromData):
    """LoRA-GA: the first step of LoRA follows the full gradient. `direction`, `scale` and
    `gamma` are PEFT's."""

    name: ClassVar[str] = "lora-ga"
    space: ClassVar[Mapping[str, Range]] = LARGE_FACTORS
    not_over: ClassVar[Mapping[str, str]] = {
        "nf4": "it starts from the frozen weights' gradients, which packed ones have not; take bfloat16"
    }
    direction: str = "ArB2r"
    scale: str = "stable"
    gamma: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(gamma=self.gamma)
        for key, known in (("direction", DIRECTIONS), ("scale", SCALES)):
            if (given := getattr(self, key)) not in known:
                raise AdapterError(f"{key} {given!r} is none of PEFT's{nearest(str(given), known)}")

    @override
    def check(self, linear: Linear) -> None:
        super().check(linear)
        check_directions(self.rank, linear)

    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        super().install(model, selected, generator)
        self._moved_bases = list(selected)

    @override
    def before_training(self, batches: Iterator[FirstBatch]) -> None:
        weights = [self.plain(name).weight.requires_grad_(True) for name in self.layers]
        sums = [torch.zeros_like(weight) for weight in weights]
        read = list(islice(batches, self.batches))
        for batch in read:
            found = torch.autograd.grad(batch.loss(), weights, allow_unused=True, materialize_grads=True)
            torch._foreach_add_(sums, found)
        for weight in weights:
            weight.requires_grad_(False)
        asked: dict[str, Any] = {"direction": self.direction, "scale": self.scale, "stable_gamma": self.gamma}
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.no_grad():
            torch.manual_seed(SEED)
            for layer, total in zip(map(tuner_layer, self.layers.values()), sums, strict=True):
                base = layer.cpu().get_base_layer()
                base._peft_loraga_grad = (total / len(read)).cpu()
                layer.lora_ga_init(ADAPTER, LoraGAConfig(**asked))
                layer.to(total.device)
        self.tuner._cast_adapter_dtype(ADAPTER)


@dataclass(kw_only=True)
class Eva(_FromData):
    """EVA: LoRA whose B spans most of what the layer is given."""

    name: ClassVar[str] = "eva"
    space: ClassVar[Mapping[str, Range]] = LARGE_FACTORS

    @override
    @torch.no_grad()
    def before_training(self, batches: Iterator[FirstBatch]) -> None:
        """Raises AdapterError if no micro-batch gives a layer as many rows as the rank."""
        components: dict[str, IncrementalPCA] = {}
        for batch in islice(batches, self.batches):
            mask = batch.inputs.get("attention_mask")
            handles = [
                layer.register_forward_pre_hook(self._reader(name, mask, components))
                for name, layer in self.layers.items()
            ]
            batch.loss()
            for handle in handles:
                handle.remove()
        for name, layer in self.layers.items():
            if name not in components:
                raise AdapterError(
                    f"eva on {name}: none of the first micro-batches has {self.rank} rows; "
                    "raise batch_size or lower rank"
                )
            tuner_layer(layer).lora_A[ADAPTER].weight.copy_(components[name].components_)

    def _reader(
        self, name: str, mask: Tensor | None, components: dict[str, IncrementalPCA]
    ) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def read(_: nn.Module, given: tuple[Any, ...]) -> None:
            x = given[0]
            rows = x[mask.bool()] if mask is not None and mask.shape == x.shape[:-1] else x.flatten(0, -2)
            if len(rows) < self.rank:
                return
            if name not in components:
                width = min(2 * self.rank, *rows.shape)
                components[name] = IncrementalPCA(self.rank, lowrank=True, lowrank_q=width, lowrank_seed=SEED)
            components[name].partial_fit(rows.cpu())

        return read
