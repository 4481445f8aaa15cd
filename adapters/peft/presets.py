"""PEFT's methods that have names of their own here.

`dora` (Liu et al. 2024, arXiv 2402.09353), `adalora` (Zhang et al. 2023, arXiv 2303.10512) and
`hira` (Huang et al., ICLR 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.base import AdapterError, check_count, check_positive, check_rank
from rankbench.adapters.budget import Budgeted
from rankbench.adapters.peft.bridge import PeftBridge


@dataclass(kw_only=True)
class Hira(PeftBridge):
    """HiRA: the increment is the frozen weight times a low-rank matrix, entry by entry."""

    name: ClassVar[str] = "hira"
    rank: int = 8

    def __post_init__(self) -> None:
        check_count(rank=self.rank)

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """Raise AdapterError if the rank does not fit the layer."""
        check_rank(self.rank, linear)

    def peft_settings(self) -> dict[str, Any]:
        """PEFT's configuration."""
        return {"peft_type": "HIRA", "r": self.rank}


@dataclass(kw_only=True)
class Dora(PeftBridge):
    """DoRA: LoRA on the direction of each row, its length trained apart."""

    name: ClassVar[str] = "dora"
    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        check_count(rank=self.rank)
        check_positive(alpha=self.alpha)

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """Raise AdapterError if the rank does not fit the layer."""
        check_rank(self.rank, linear)

    def peft_settings(self) -> dict[str, Any]:
        """PEFT's configuration."""
        return {"peft_type": "LORA", "use_dora": True, "r": self.rank, "lora_alpha": self.alpha}


@dataclass(kw_only=True)
class AdaLora(PeftBridge, Budgeted):
    """AdaLoRA: V diag(e) U with orthogonality and a rank budget over all layers."""

    name: ClassVar[str] = "adalora"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_rank == self.rank:
            raise AdapterError(f"target_rank must be below rank {self.rank}: PEFT's AdaLoRA always prunes")

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """Raise AdapterError if the rank does not fit the layer."""
        check_rank(self.rank, linear)

    def peft_settings(self) -> dict[str, Any]:
        """PEFT's configuration."""
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
