"""Any PEFT method behind the contract of `adapters.base`: its layers, and what they need beside them.

PEFT draws initial values from the global generator, which is forked and seeded from the run's. AdaLoRA's
(Zhang et al. 2023, arXiv 2303.10512) penalty is added by PEFT in a wrapper of the whole model, which is not
used: it is computed here, batched, with PEFT's formula. Steps are counted from 1 for its schedule.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import get_peft_model_state_dict
from peft.tuners.adalora import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.base import Adapter
from rankbench.adapters.errors import AdapterError
from rankbench.adapters.forms import PeftForm
from rankbench.adapters.layers import Linear
from rankbench.adapters.peft.configuration import check_patterns, configuration, refusal
from rankbench.adapters.peft.injection import ADAPTER, base_of, inject, merged, tuner_layer
from rankbench.adapters.peft.support import BLIND_STARTS, IN_FOUR_BITS

_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")
"""AdaLoRA's smoothed importance, by the names of its allocator."""


@dataclass(kw_only=True)
class PeftBridge(Adapter):
    """A PEFT method, given by `peft_settings()`: PEFT's configuration with its `peft_type`."""

    tuner: BaseTuner = field(init=False, repr=False, compare=False)
    _moved_bases: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def peft_settings(self) -> dict[str, Any]:
        """PEFT's configuration as data."""
        raise NotImplementedError

    @override
    def why_not_over(self, weights: str) -> str:
        settings = self.peft_settings()
        method, start = str(settings["peft_type"]).upper(), str(settings.get("init_lora_weights")).lower()
        if weights != "float32" and (biases := str(settings.get("bias", "none"))) != "none":
            return (
                f"its biases are trained (bias: {biases}) in bfloat16, which loses small steps to rounding; "
                "leave `bias` out, or `weights`"
            )
        if weights == "nf4" and method not in IN_FOUR_BITS:
            return f"PEFT's {method} does not train over four bits; take bfloat16"
        if weights == "nf4" and start not in BLIND_STARTS:
            return f"its start ({start}) factorises the frozen weights; take bfloat16"
        return super().why_not_over(weights)

    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        """Have PEFT replace the selected layers, and nothing else. Raises AdapterError, with the model as
        before, if PEFT cannot, or if its layers cannot be merged or have nothing to train."""
        config, kind = configuration(self.peft_settings())
        seed = int(torch.randint(2**62, (), generator=generator))
        transposed = any(isinstance(linear, Conv1D) for linear in selected.values())
        if transposed and str(getattr(config, "init_lora_weights", "")).lower() == "olora":
            # A square one it would take, and begin with another model.
            raise AdapterError(
                "PEFT's OLoRA factorises a Conv1D the wrong way round; take PiSSA for this model"
            )
        try:
            check_patterns(config, selected)
            config.target_modules = "|".join(re.escape(name) for name in selected)
            if hasattr(config, "fan_in_fan_out"):
                config.fan_in_fan_out = transposed
            if hasattr(config, "progressbar"):
                config.progressbar = False  # FRoD's, across the lines of the runs
            self.tuner, self._moved_bases = inject(model, config, kind, selected, seed)
        except AdapterError:
            raise
        except Exception as error:  # PEFT raises whatever it likes
            raise refusal(config.peft_type.value, error) from error
        self.layers = {name: model.get_submodule(name) for name in selected}
        if isinstance(self.tuner, AdaLoraModel):
            # The rank, by which PEFT divides: over weights on a GPU or in another precision PEFT has it
            # trained, as a new tensor takes its place, which a ParameterDict makes a trained parameter.
            for layer in map(tuner_layer, self.layers.values()):
                layer.ranknum.requires_grad_(False)

    @override
    def moved(self) -> dict[str, Tensor]:
        names = [name for name in self._moved_bases if name in self.layers]
        bases = {f"{name}.base_layer.weight": self.plain(name).weight for name in names}
        return super().moved() | bases

    @override
    def plain(self, name: str) -> Linear:
        return base_of(self.layers[name])

    @override
    def folded(self, name: str) -> dict[str, Tensor]:
        return merged(self.layers[name])

    @override
    def peft_form(self) -> PeftForm:
        """As PEFT itself saves it. Raises AdapterError for a start that has changed the pretrained weights:
        PEFT would add the factors to other ones."""
        if self._moved_bases:
            raise AdapterError(
                f"{self.name} has begun by changing the pretrained weights, so its factors are not all that "
                "was trained (twice its rank holds that)"
            )
        config = copy.deepcopy(_config(self.tuner))
        if isinstance(self.tuner, AdaLoraModel):
            config.rank_pattern = None  # what is pruned is a zero in lora_E
        holder: Any = nn.Module()  # in the place of PEFT's wrapper, for names as its files have them
        holder.base_model, holder.peft_config = self.tuner, {ADAPTER: config}
        try:
            state = get_peft_model_state_dict(holder, adapter_name=ADAPTER, save_embedding_layers=False)
        except Exception as error:  # PEFT raises whatever it likes
            raise refusal(config.peft_type.value, error) from error
        return PeftForm(config, state)

    @override
    def penalty(self) -> Tensor | float:
        """AdaLoRA's: the weighted mean of ‖F Fᵀ - I‖ over the factors F of all layers."""
        if not isinstance(self.tuner, AdaLoraModel):
            return 0.0
        layers: Any = self.layers.values()
        pairs = [(layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]) for layer in layers]
        grams = torch.stack([gram for right, left in pairs for gram in (right @ right.t(), left.t() @ left)])
        distances = torch.linalg.matrix_norm(grams - torch.eye(grams.shape[-1]).to(grams))
        weighted: Tensor = _config(self.tuner).orth_reg_weight * distances.mean()
        return weighted

    @override
    def after_step(self, optimizer: Optimizer, step: int) -> None:
        if isinstance(self.tuner, AdaLoraModel):
            self.tuner.update_and_allocate(step + 1)

    @override
    def diagnostics(self) -> dict[str, Any]:
        """Of AdaLoRA: singular values left per layer."""
        if not (isinstance(self.tuner, AdaLoraModel) and self.layers):
            return {}
        layers: Any = self.layers.values()
        left = torch.stack([layer.lora_E[ADAPTER].count_nonzero() for layer in layers])
        return {"rank": dict(zip(self.layers, left.tolist(), strict=True))}

    @override
    def extra_state(self) -> dict[str, Any]:
        if not isinstance(self.tuner, AdaLoraModel):
            return {}
        allocator = self.tuner.rankallocator
        return {
            "rank_pattern": copy.deepcopy(_config(self.tuner).rank_pattern),
            **{key: {n: t.clone() for n, t in getattr(allocator, key).items()} for key in _IMPORTANCE},
        }

    @override
    def load_extra_state(self, state: dict[str, Any]) -> None:
        if not isinstance(self.tuner, AdaLoraModel):
            return
        _config(self.tuner).rank_pattern = copy.deepcopy(state["rank_pattern"])
        places = {name: parameter.device for name, parameter in self.model.named_parameters()}
        for key in _IMPORTANCE:
            restored = {name: value.to(places[name], copy=True) for name, value in state[key].items()}
            setattr(self.tuner.rankallocator, key, restored)


def _config(tuner: BaseTuner) -> Any:
    return tuner.peft_config[ADAPTER]
