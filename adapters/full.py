"""Full fine-tuning: every parameter of the model is trained. The reference that adapters are held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.base import Adapter


@dataclass(kw_only=True)
class Full(Adapter):
    """No increment: the targets are only remembered, so that `weight` can be asked for them."""

    name: ClassVar[str] = "full"

    @override
    def install(
        self, model: nn.Module, selected: dict[str, nn.Linear | Conv1D], generator: torch.Generator | None
    ) -> None:
        """Make every parameter trainable."""
        model.requires_grad_(True)
        self.layers = dict(selected)

    def plain(self, name: str) -> nn.Linear | Conv1D:
        """The target layer itself."""
        layer = self.layers[name]
        assert isinstance(layer, (nn.Linear, Conv1D))
        return layer

    def folded(self, name: str) -> dict[str, Tensor]:
        """A copy of one target layer's weight: nothing is left to fold."""
        return {"weight": self.plain(name).weight.detach().clone()}
