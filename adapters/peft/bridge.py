"""Any PEFT method behind the contract of `adapters.base`: its layers, and what they need beside them.

PEFT draws initial values from the global generator, which is forked and seeded from the run's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.adalora import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.base import Adapter
from rankbench.adapters.errors import AdapterError
from rankbench.adapters.layers import Linear
from rankbench.adapters.peft import adalora
from rankbench.adapters.peft.configuration import configuration, refusal
from rankbench.adapters.peft.injection import base_of, inject, merged
from rankbench.adapters.peft.patterns import check_patterns


@dataclass(kw_only=True)
class PeftBridge(Adapter):
    """A PEFT method, given by `peft_settings()`: PEFT's configuration with its `peft_type`."""

    tuner: BaseTuner = field(init=False, repr=False, compare=False)
    _moved_bases: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def peft_settings(self) -> dict[str, Any]:
        """PEFT's configuration as data."""
        raise NotImplementedError

    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        """Have PEFT replace the selected layers, and nothing else.

        Raises AdapterError if PEFT cannot, or if its layers cannot be merged or have nothing to
        train; the model is as before then.
        """
        config, kind = configuration(self.peft_settings())
        seed = int(torch.randint(2**62, (), generator=generator))
        try:
            check_patterns(config, selected)
            config.target_modules = "|".join(re.escape(name) for name in selected)
            if hasattr(config, "fan_in_fan_out"):
                config.fan_in_fan_out = any(isinstance(linear, Conv1D) for linear in selected.values())
            self.tuner, self._moved_bases = inject(model, config, kind, selected, seed)
        except AdapterError:
            raise
        except Exception as error:  # PEFT raises whatever it likes
            raise refusal(config.peft_type.value, error) from error
        self.layers = {name: model.get_submodule(name) for name in selected}

    @override
    def moved(self) -> dict[str, Tensor]:
        bases = {f"{name}.base_layer.weight": self.plain(name).weight for name in self._moved_bases}
        return super().moved() | bases

    @override
    def plain(self, name: str) -> Linear:
        return base_of(self.layers[name])

    @override
    def folded(self, name: str) -> dict[str, Tensor]:
        return merged(self.layers[name])

    @override
    def penalty(self) -> Tensor | float:
        if isinstance(self.tuner, AdaLoraModel):
            return adalora.penalty(self.tuner, self.layers.values())
        return 0.0

    @override
    def after_step(self, optimizer: Optimizer, step: int) -> None:
        if isinstance(self.tuner, AdaLoraModel):
            self.tuner.update_and_allocate(step + 1)

    @override
    def diagnostics(self) -> dict[str, Any]:
        if isinstance(self.tuner, AdaLoraModel) and self.layers:
            return {"rank": adalora.ranks(self.layers)}
        return {}

    @override
    def extra_state(self) -> dict[str, Any]:
        return adalora.state(self.tuner) if isinstance(self.tuner, AdaLoraModel) else {}

    @override
    def load_extra_state(self, state: dict[str, Any]) -> None:
        if isinstance(self.tuner, AdaLoraModel):
            adalora.load_state(self.tuner, self.model, state)
