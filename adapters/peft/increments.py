"""Increments of PEFT under names of their own, at PEFT's defaults: what they make of W (out, in).

    randlora  W + s Σᵢ Bᵢ Λᵢ A Γᵢ, i ≤ n = ⌈min(in, out) / r⌉        Albert et al. 2025, arXiv 2502.00987
              (Bᵢ and A random and fixed, of rank r; Λᵢ, Γᵢ diagonal)
    vera      W + diag(b) B diag(d) A (B and A random and fixed)    Kopiczko et al. 2024, arXiv 2310.11454
    miss      W + (D … D), D (out, r) for each r of the inputs      Kang, Yin 2024, arXiv 2409.15371
    delora    W + (λ / r) Σᵢ aᵢ bᵢᵀ diag(|Wⱼ|) / (|aᵢ| |bᵢ|)         Bini et al. 2025, arXiv 2503.18225
    gralora   W + s A Bᵀ in each of k × k blocks, of rank r / k     Jung et al. 2025, arXiv 2505.20355
    shira     W + as many entries, at random places, as LoRA has    Bhardwaj et al. 2024, arXiv 2406.13175

r is the rank. What a layer trains, to be matched with LoRA's r (in + out): randlora n (r + min(in, out)),
which falls with r; vera r + out; miss r out; delora r (in + out) + 1; gralora and shira r (in + out).
RandLoRA's and VeRA's matrices and SHiRA's places come from PEFT's own seeds, whatever the run's. `peft`
takes the settings that are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, nn
from typing_extensions import override

from rankbench.adapters.base import Range, Ranked
from rankbench.adapters.errors import AdapterError, check_count, check_positive
from rankbench.adapters.layers import Linear
from rankbench.adapters.peft.bridge import PeftBridge
from rankbench.adapters.peft.rates import RATES


@dataclass(kw_only=True)
class RandLora(Ranked, PeftBridge):
    """RandLoRA: an increment of full rank, from random matrices and trained diagonals; `scale` is s."""

    name: ClassVar[str] = "randlora"
    space: ClassVar[Mapping[str, Range]] = RATES["RANDLORA"]
    rank: int = 32
    scale: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(scale=self.scale)

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "RANDLORA", "r": self.rank, "randlora_alpha": self.scale * self.rank}


@dataclass(kw_only=True)
class Vera(PeftBridge):
    """VeRA: random matrices that all layers share, and trained vectors; the rank may exceed a layer."""

    name: ClassVar[str] = "vera"
    space: ClassVar[Mapping[str, Range]] = RATES["VERA"]
    example: ClassVar[dict[str, Any]] = {"rank": 4}
    rank: int = 256
    d_initial: float = 0.1
    """What the entries of d start at."""

    def __post_init__(self) -> None:
        check_count(rank=self.rank)
        check_positive(d_initial=self.d_initial)

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "VERA", "r": self.rank, "d_initial": self.d_initial}


@dataclass(kw_only=True)
class Miss(Ranked, PeftBridge):
    """MiSS (once Bone): one block of weights, shared by all shards of a layer's inputs."""

    name: ClassVar[str] = "miss"
    space: ClassVar[Mapping[str, Range]] = RATES["MISS"]
    rank: int = 64

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "MISS", "r": self.rank}


@dataclass(kw_only=True)
class DeLora(Ranked, PeftBridge):
    """DeLoRA: LoRA by directions of length one; their strength λ, `strength` at first, is trained too."""

    name: ClassVar[str] = "delora"
    # The directions have length one from the first step on, whatever the rate: λ says how far that goes, and
    # PEFT's 15 is for models of billions.
    space: ClassVar[Mapping[str, Range]] = {**RATES["DELORA"], "strength": (0.5, 15, "log")}
    strength: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(strength=self.strength)

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "DELORA", "r": self.rank, "delora_lambda": self.strength}


@dataclass(kw_only=True)
class GraLora(Ranked, PeftBridge):
    """GraLoRA: LoRA by blocks, `blocks` (k) in each direction, s = alpha / rank."""

    name: ClassVar[str] = "gralora"
    space: ClassVar[Mapping[str, Range]] = RATES["GRALORA"]
    rank: int = 32
    alpha: float = 64.0
    blocks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(alpha=self.alpha)
        check_count(blocks=self.blocks)
        if self.rank % self.blocks:
            raise AdapterError(f"rank {self.rank} is no multiple of blocks {self.blocks}; choose one that is")

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "GRALORA", "r": self.rank, "alpha": self.alpha, "gralora_k": self.blocks}


@dataclass(kw_only=True)
class Shira(Ranked, PeftBridge):
    """SHiRA: a sparse increment at random places, as many as LoRA of that rank has parameters."""

    name: ClassVar[str] = "shira"
    space: ClassVar[Mapping[str, Range]] = RATES["SHIRA"]

    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        # PyTorch's default, but said: where nothing is, PEFT's sparse matrices make it warn.
        torch.sparse.check_sparse_tensor_invariants.disable()
        super().install(model, selected, generator)

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "SHIRA", "r": self.rank}
