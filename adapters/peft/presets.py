"""PEFT's methods: any by its own configuration (`peft`), and those that have names of their own here.

What runs of the first is in `adapters.peft.support`. With s = alpha / r, A (out, r) and B (in, r):

    dora     m ∘ (W + s A Bᵀ) / ‖W + s A Bᵀ‖, row by row      Liu et al. 2024, arXiv 2402.09353, equation 5
    adalora  W + s V diag(e) U, the least e are zeroed        Zhang et al. 2023, arXiv 2303.10512
    hira     W + W ∘ A Bᵀ                                     Huang et al., ICLR 2025

Deviations are PEFT's, as in their releases: DoRA's norm is held constant in the gradient (its section 4.3);
AdaLoRA's penalty is the mean over factors of norms, not of their squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from peft import PeftType
from typing_extensions import override

from rankbench.adapters.base import Range, Ranked
from rankbench.adapters.budget import Budgeted
from rankbench.adapters.errors import AdapterError, check_count, check_positive
from rankbench.adapters.layers import Linear, check_rank
from rankbench.adapters.peft.bridge import PeftBridge
from rankbench.adapters.peft.configuration import configuration
from rankbench.adapters.peft.rates import RATES


@dataclass(kw_only=True)
class Peft(PeftBridge):
    """Any PEFT configuration: `config` holds PEFT's own keys, `peft_type` among them."""

    name: ClassVar[str] = "peft"
    example: ClassVar[dict[str, Any]] = {"config": {"peft_type": "LORA", "r": 2, "lora_alpha": 4}}
    config: dict[str, Any]
    total_steps: int | None = None
    """The run's optimizer steps, where they are known: AdaLoRA's schedule is over these."""

    def __post_init__(self) -> None:
        if not isinstance(self.config, dict):
            raise AdapterError(f"config must be PEFT's settings as `key: value`, not {self.config!r}")
        configuration(self.peft_settings())

    @override
    @classmethod
    def space_of(cls, given: Mapping[str, Any]) -> Mapping[str, Range]:
        """That of the method which `config` names; the settings of `config` are never drawn."""
        return RATES.get(_method(given["config"]), cls.space)

    @override
    def check(self, linear: Linear) -> None:
        """Raise AdapterError if LoRA's rank does not fit the layer: PEFT takes what there is of it."""
        config, _ = configuration(self.peft_settings())
        if config.peft_type == PeftType.LORA:
            check_count(r=config.r)
            check_rank(config.r, linear)

    @override
    def peft_settings(self) -> dict[str, Any]:
        """With the run's steps for AdaLoRA. Raises AdapterError if `config` names others."""
        if _method(self.config) != "ADALORA" or self.total_steps is None:
            return dict(self.config)
        asked = self.config.get("total_step")
        if asked not in (None, self.total_steps):
            raise AdapterError(
                f"total_step {asked} is not the run's {self.total_steps} steps, over which ADALORA's rank "
                "falls; leave it out"
            )
        return self.config | {"total_step": self.total_steps}


@dataclass(kw_only=True)
class Hira(Ranked, PeftBridge):
    """HiRA: the increment is the frozen weight times a low-rank matrix, entry by entry."""

    name: ClassVar[str] = "hira"
    space: ClassVar[Mapping[str, Range]] = RATES["HIRA"]

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "HIRA", "r": self.rank}


@dataclass(kw_only=True)
class LoraByPeft(Ranked, PeftBridge):
    """PEFT's LoRA, its factors as it draws them."""

    space: ClassVar[Mapping[str, Range]] = RATES["LORA"]
    alpha: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(alpha=self.alpha)

    @override
    def peft_settings(self) -> dict[str, Any]:
        return {"peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha}


@dataclass(kw_only=True)
class Dora(LoraByPeft):
    """DoRA: LoRA on the direction of each row, its length trained apart."""

    name: ClassVar[str] = "dora"

    @override
    def peft_settings(self) -> dict[str, Any]:
        return super().peft_settings() | {"use_dora": True}


@dataclass(kw_only=True)
class AdaLora(Budgeted, PeftBridge):
    """AdaLoRA: V diag(e) U with orthogonality and a rank budget over all layers."""

    name: ClassVar[str] = "adalora"
    version: ClassVar[int] = 2
    space: ClassVar[Mapping[str, Range]] = RATES["ADALORA"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_rank == self.rank:
            raise AdapterError(f"target_rank must be below rank {self.rank}: PEFT's AdaLoRA always prunes")

    @override
    def peft_settings(self) -> dict[str, Any]:
        schedule = self.schedule(layers=1)
        return {
            "peft_type": "ADALORA",
            "init_r": self.rank,
            "target_r": self.target_rank,
            "lora_alpha": self.alpha,
            "orth_reg_weight": self.orthogonality,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "tinit": schedule.start,
            "tfinal": self.total_steps - schedule.end,
            "deltaT": self.mask_interval,
            "total_step": self.total_steps,
        }


def _method(config: Mapping[str, Any]) -> str:
    return str(config.get("peft_type")).upper()
