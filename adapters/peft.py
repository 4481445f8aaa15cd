"""PEFT's methods (https://github.com/huggingface/peft) behind the same contract.

`peft` takes any PEFT configuration as data; `dora` (Liu et al. 2024, arXiv 2402.09353), `adalora`
(Zhang et al. 2023, arXiv 2303.10512) and `hira` (Huang et al., ICLR 2025) are named ones. The
layers are PEFT's own, put in place in the model. PEFT draws initial values from the global
generator, which is forked and seeded from the run's.

AdaLoRA's orthogonality penalty is computed here, batched, with PEFT's formula: PEFT adds it to the
loss in a wrapper of the whole model, which is not used. Steps are counted from 1 for its schedule.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.adalora import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, cast_adapter_dtype
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from adapters.base import Adapter, AdapterError, check_count, check_positive, check_rank, nearest, weight_of
from adapters.budget import Budgeted

SET_BY_THE_RUN = {"target_modules": "targets", "modules_to_save": "heads"}
REFUSALS = (ValueError, TypeError, NotImplementedError, AssertionError, ImportError, RuntimeError, KeyError)
ADAPTER = "default"


@dataclass(kw_only=True)
class PeftBridge(Adapter):
    """A PEFT method, given by `peft_settings()`: PEFT's configuration with its `peft_type`."""

    tuner: BaseTuner = field(init=False, repr=False, compare=False)
    _moved_bases: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def peft_settings(self) -> dict[str, Any]:
        """PEFT's configuration as data."""
        raise NotImplementedError

    def install(
        self, model: nn.Module, selected: dict[str, nn.Linear | Conv1D], generator: torch.Generator | None
    ) -> None:
        """Have PEFT replace the selected layers, and nothing else."""
        config, tuner_class = _configuration(self.peft_settings())
        config.target_modules = "|".join(re.escape(name) for name in selected)
        if hasattr(config, "fan_in_fan_out"):
            config.fan_in_fan_out = any(isinstance(linear, Conv1D) for linear in selected.values())
        before = {name: weight_of(linear).clone() for name, linear in selected.items()}
        seed = int(torch.randint(2**62, (), generator=generator))
        try:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                torch.manual_seed(seed)
                self.tuner = tuner_class(model, config, ADAPTER)
        except REFUSALS as error:
            for name, linear in selected.items():
                model.set_submodule(name, linear)
            raise _refusal(config.peft_type.value, error) from error
        cast_adapter_dtype(model, ADAPTER)
        self.layers = {name: model.get_submodule(name) for name in selected}
        # Some initialisations (PiSSA, OLoRA, …) take their start out of the frozen weight.
        # A model without values ("meta") has none to compare.
        self._moved_bases = [
            n
            for n, linear in selected.items()
            if not before[n].is_meta and not torch.equal(before[n], weight_of(linear))
        ]

    def _moved(self) -> dict[str, Tensor]:
        moved = super()._moved()
        for name in self._moved_bases:
            base: Any = _tuner_layer(self.layers[name]).get_base_layer()
            moved[f"{name}.base_layer.weight"] = base.weight
        return moved

    @torch.no_grad()
    def weight(self, name: str) -> Tensor:
        """The effective weight (out, in) of one adapted layer: a copy of it, merged."""
        layer = _tuner_layer(copy.deepcopy(self.layers[name]))
        layer.merge()
        merged = layer.get_base_layer()
        assert isinstance(merged, (nn.Linear, Conv1D))
        return weight_of(merged).detach()

    @torch.no_grad()
    def merge(self, model: nn.Module) -> nn.Module:
        """Fold every increment into its weight and put the plain layers back. Returns the model."""
        self.tuner.merge_and_unload()
        self.layers = {}
        return model

    def penalty(self) -> Tensor | float:
        """AdaLoRA's: the weighted mean of ‖F Fᵀ - I‖ over its factors F; nothing for the others."""
        if not isinstance(self.tuner, AdaLoraModel):
            return 0.0
        config: Any = self.tuner.peft_config[ADAPTER]
        grams = [gram for layer in self.layers.values() for gram in _factor_grams(layer)]
        stacked = torch.stack(grams)
        distances = torch.linalg.matrix_norm(stacked - torch.eye(stacked.shape[-1]).to(stacked))
        penalty: Tensor = config.orth_reg_weight * distances.mean()
        return penalty

    @override
    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """AdaLoRA's rank allocation, while gradients are held."""
        if isinstance(self.tuner, AdaLoraModel):
            self.tuner.update_and_allocate(step + 1)

    def diagnostics(self) -> dict[str, Any]:
        """AdaLoRA's singular values left per layer."""
        if not isinstance(self.tuner, AdaLoraModel) or not self.layers:
            return {}
        layers: Any = self.layers.values()
        left = torch.stack([layer.lora_E[ADAPTER].count_nonzero() for layer in layers])
        return {"rank": dict(zip(self.layers, left.tolist(), strict=True))}

    def extra_state(self) -> dict[str, Any]:
        """AdaLoRA's smoothed importance and rank pattern."""
        if not isinstance(self.tuner, AdaLoraModel):
            return {}
        config: Any = self.tuner.peft_config[ADAPTER]
        allocator = self.tuner.rankallocator
        return {
            "rank_pattern": copy.deepcopy(config.rank_pattern),
            **{key: _copied(getattr(allocator, key)) for key in ("ipt", "exp_avg_ipt", "exp_avg_unc")},
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back AdaLoRA's importance and rank pattern."""
        if not isinstance(self.tuner, AdaLoraModel):
            return
        config: Any = self.tuner.peft_config[ADAPTER]
        config.rank_pattern = copy.deepcopy(state["rank_pattern"])
        parameters = dict(self.model.named_parameters())
        for key in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
            restored = {
                name: value.to(parameters[name].device, copy=True) for name, value in state[key].items()
            }
            setattr(self.tuner.rankallocator, key, restored)


@dataclass(kw_only=True)
class Peft(PeftBridge):
    """Any PEFT configuration: `config` holds PEFT's own keys, `peft_type` among them."""

    name: ClassVar[str] = "peft"
    config: dict[str, Any]

    def __post_init__(self) -> None:
        _configuration(self.config)

    def peft_settings(self) -> dict[str, Any]:
        """The configuration as given."""
        return self.config


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


def _configuration(settings: dict[str, Any]) -> tuple[Any, type[BaseTuner]]:
    """PEFT's configuration object and tuner. Raises AdapterError naming the fault."""
    known = {peft_type.value: peft_type for peft_type in PEFT_TYPE_TO_CONFIG_MAPPING}
    values = dict(settings)
    kind = str(values.pop("peft_type", None)).upper()
    if kind not in known:
        raise AdapterError(f"PEFT has no peft_type {settings.get('peft_type')!r}{nearest(kind, list(known))}")
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[known[kind]]
    tuner_class = PEFT_TYPE_TO_TUNER_MAPPING[known[kind]]
    if not issubclass(tuner_class, BaseTuner):
        raise AdapterError(
            f"PEFT's {kind} replaces no linear layers and can be neither compared nor merged here"
        )
    keys = [f.name for f in fields(config_class) if f.init]
    for key in values:
        if key in SET_BY_THE_RUN:
            raise AdapterError(f"{key} is not set in a PEFT configuration here, but by {SET_BY_THE_RUN[key]}")
        if key not in keys:
            raise AdapterError(f"PEFT's {kind} has no setting {key!r}{nearest(key, keys)}")
    try:
        return config_class(**values), tuner_class
    except REFUSALS as error:
        raise _refusal(kind, error) from error


def _refusal(kind: str, error: Exception) -> AdapterError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return AdapterError(f"PEFT refuses this {kind} configuration: {reason}")


def _tuner_layer(layer: nn.Module) -> BaseTunerLayer:
    assert isinstance(layer, BaseTunerLayer)
    return layer


def _factor_grams(layer: Any) -> tuple[Tensor, Tensor]:
    right, left = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
    return right @ right.t(), left.t() @ left


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}
