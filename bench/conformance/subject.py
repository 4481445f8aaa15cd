"""What the rules try: an adapter on a tiny model, made anew for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rankbench.adapters import Adapter
from rankbench.bench.conformance.models import TARGETS, seeded, tiny_model

STEPS = 8
"""Of a training: what adapters that have to know are told."""


@dataclass(frozen=True)
class Subject:
    """An adapter to be tried on one architecture: made anew for every trial."""

    create: Callable[[], Adapter]
    architecture: str
    device: torch.device | str = "cpu"

    def model(self, **how: Any) -> nn.Module:
        """Tiny, on the CPU, without an adapter; the same at every call."""
        return tiny_model(self.architecture, **how)

    def attach(self, model: nn.Module, seed: int = 0) -> Adapter:
        """On the CPU, as in a run."""
        adapter = self.create()
        adapter.attach(model, TARGETS[self.architecture], generator=seeded(seed))
        return adapter

    def attached(self, seed: int = 0, *, head: str | None = None) -> tuple[Adapter, nn.Module]:
        """An adapter and its model, on the device."""
        model = self.model(head=head)
        adapter = self.attach(model, seed)
        return adapter, model.to(self.device)


def everything(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    named = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}
