"""Rotations of PEFT under names of their own, at PEFT's defaults: W (out, in) takes an orthogonal factor.

    oft  W R, R orthogonal, in blocks of b inputs    Qiu et al. 2023, arXiv 2306.07280
    hra  W H₁ … Hᵣ, reflections                      Yuan et al. 2024, arXiv 2405.17484

What a layer trains, to be matched with LoRA's r (in + out): oft in (b - 1) / 2, set by `block_size`; hra
r in. `peft` takes the settings that are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import override

from rankbench.adapters.base import Range, Ranked
from rankbench.adapters.errors import AdapterError, check_count
from rankbench.adapters.peft.bridge import PeftBridge
from rankbench.adapters.peft.rates import RATES


@dataclass(kw_only=True)
class Oft(PeftBridge):
    """OFT: a rotation of what comes in, by blocks of `block_size`, which must divide a layer's inputs; of the
    inverse in Cayley's formula so many `neumann_terms`."""

    name: ClassVar[str] = "oft"
    space: ClassVar[Mapping[str, Range]] = RATES["OFT"]
    example: ClassVar[dict[str, Any]] = {"block_size": 2}
    block_size: int = 32
    neumann_terms: int = 5

    def __post_init__(self) -> None:
        check_count(block_size=self.block_size, neumann_terms=self.neumann_terms)
        if self.neumann_terms < 2:
            raise AdapterError("neumann_terms must be at least 2, not 1: the first one turns nothing")

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {
            "peft_type": "OFT",
            "oft_block_size": self.block_size,
            "use_cayley_neumann": True,
            "num_cayley_neumann_terms": self.neumann_terms,
        }


@dataclass(kw_only=True)
class Hra(Ranked, PeftBridge):
    """HRA: a chain of Householder reflections, in equal pairs at the start, which undo each other."""

    name: ClassVar[str] = "hra"
    space: ClassVar[Mapping[str, Range]] = RATES["HRA"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank % 2:
            raise AdapterError(f"rank must be even, not {self.rank}: the reflections start in pairs")

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "HRA", "r": self.rank}
