"""LoRA+ (Hayou et al. 2024, arXiv 2402.12354): LoRA whose two factors have learning rates of their own.

    A moves by λη, B by η        A (out, r), B (in, r) as in `adapters.lora`; λ > 1

The paper's (and PEFT's) names are crossed: their B, which starts at zero and has the larger rate λη, is our
A. η is the run's learning rate; the schedule moves both. λ = 16 as the authors' release advises. A head has
η, all of it: PEFT's optimizer gives its bias λη.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from rankbench.adapters.base import ParameterGroup, Range
from rankbench.adapters.errors import check_positive
from rankbench.adapters.lora import Lora, LowRankLinear


@dataclass(kw_only=True)
class LoraPlus(Lora):
    """LoRA+: `ratio` is λ, by which A's learning rate exceeds B's, which is the run's."""

    name: ClassVar[str] = "lora-plus"
    # Around the release's λ = 16; B's rate lies below LoRA's: 2e-4 beat 8e-4 at that λ on SST-2.
    space: ClassVar[Mapping[str, Range]] = {
        "learning_rate": (5e-5, 2e-3, "log"),
        "ratio": (2, 32, "log"),
    }
    ratio: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(ratio=self.ratio)

    @override
    def parameter_groups(self) -> list[ParameterGroup]:
        fast = {layer.A for layer in self.layers.values() if isinstance(layer, LowRankLinear)}
        trained = self.trained()
        return [
            ParameterGroup([parameter for parameter in trained if parameter not in fast]),
            ParameterGroup([parameter for parameter in trained if parameter in fast], self.ratio),
        ]
