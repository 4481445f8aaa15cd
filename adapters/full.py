"""Full fine-tuning: every parameter of the model is trained. The reference that adapters are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor, nn
from typing_extensions import override

from rankbench.adapters.base import Adapter, Range
from rankbench.adapters.layers import Linear
from rankbench.adapters.shards import whole


@dataclass(kw_only=True)
class Full(Adapter):
    """No increment: the targets are only remembered, so that `weight` can be asked for them."""

    name: ClassVar[str] = "full"
    # 1e-4 to 2e-4 was best in short sweeps of MiniLM; longer runs and larger models want less.
    space: ClassVar[Mapping[str, Range]] = {"learning_rate": (2e-5, 5e-4, "log")}
    not_over: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("bfloat16", "nf4"),
        "it trains every weight, and would lose small steps to rounding; leave `weights` out",
    )

    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        model.requires_grad_(True)
        self.layers = dict(selected)

    @override
    def plain(self, name: str) -> Linear:
        layer = self.layers[name]
        assert isinstance(layer, Linear)
        return layer

    @override
    def folded(self, name: str) -> dict[str, Tensor]:
        """A copy of one target layer's weight: nothing is left to fold."""
        return {"weight": whole(self.plain(name).weight.detach()).clone()}
