"""Any PEFT method on the bare model: PEFT's own layers, put in place, without its model wrapper.

`peft` takes a PEFT configuration as data; what of it runs is in `adapters.peft.support`. PEFT
draws initial values from the global generator, which is forked and seeded from the run's.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import PeftType
from peft.tuners.adalora import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.base import Adapter, AdapterError, check_count, check_rank, nearest, weight_of
from rankbench.adapters.peft import adalora
from rankbench.adapters.peft.adalora import ADAPTER
from rankbench.adapters.peft.configuration import configuration, refusal, with_steps


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
        """Have PEFT replace the selected layers, and nothing else.

        Raises AdapterError if PEFT cannot, or if its layers cannot be merged or have nothing to
        train; the model is as before then.
        """
        config, tuner_class = configuration(self.peft_settings())
        try:
            _check_patterns(config, selected)
        except re.error as error:
            raise refusal(config.peft_type.value, error) from error
        config.target_modules = "|".join(re.escape(name) for name in selected)
        if hasattr(config, "fan_in_fan_out"):
            config.fan_in_fan_out = any(isinstance(linear, Conv1D) for linear in selected.values())
        before = {name: weight_of(linear).clone() for name, linear in selected.items()}
        if any(w.is_meta for w in before.values()) and _starts_from_weights(config):
            config.init_lora_weights = True  # a model of shapes has no weights, and the start no other shapes
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        seed = int(torch.randint(2**62, (), generator=generator))

        def put_back() -> None:
            self.layers = {}
            for name, linear in selected.items():
                model.set_submodule(name, linear)
                if not before[name].is_meta:
                    weight_of(linear).data.copy_(before[name])
            for parameter in trainable:
                parameter.requires_grad_(True)

        try:
            try:
                self._inject(model, copy.deepcopy(config), tuner_class, list(selected), seed)
            except RuntimeError:
                if not any(weight.is_meta for weight in before.values()):
                    raise
                # A start that is computed from the weights needs some, and a model of shapes has none.
                put_back()
                for linear in selected.values():
                    _give_values(linear)
                self._inject(model, config, tuner_class, list(selected), seed)
        except Exception as error:  # PEFT raises whatever it likes
            put_back()
            raise refusal(config.peft_type.value, error) from error
        # Some initialisations (PiSSA, OLoRA, …) take their start out of the frozen weight.
        # A model without values ("meta") has none to compare.
        self._moved_bases = [
            name
            for name, weight in before.items()
            if not weight.is_meta and not torch.equal(weight, weight_of(_base(self.layers[name])))
        ]

    def _inject(
        self, model: nn.Module, config: Any, tuner_class: type[BaseTuner], selected: list[str], seed: int
    ) -> None:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            with warnings.catch_warnings():
                # OFT takes another block size than the one asked for, where that does not divide the layer.
                warnings.filterwarnings("error", message=".*Adjusted")
                self.tuner = tuner_class(model, config, ADAPTER)
        del model.peft_config  # a mark of PEFT's wrapper, which is not there
        self.tuner._cast_adapter_dtype(ADAPTER)
        self.layers = {name: _tuner_layer(model.get_submodule(name)) for name in selected}
        model.train(model.training)
        _check_layers(self)

    def _moved(self) -> dict[str, Tensor]:
        moved = super()._moved()
        for name in self._moved_bases:
            moved[f"{name}.base_layer.weight"] = _base(self.layers[name]).weight
        return moved

    def plain(self, name: str) -> nn.Linear | Conv1D:
        """The layer that PEFT has wrapped."""
        return _base(self.layers[name])

    @torch.no_grad()
    def folded(self, name: str) -> dict[str, Tensor]:
        """The parameters of a merged copy of one layer, added up by PEFT in float32 at least."""
        layer = copy.deepcopy(_tuner_layer(self.layers[name]))
        base = _base(layer)
        base.to(torch.promote_types(base.weight.dtype, torch.float32))
        layer.merge()
        return {key: parameter.detach() for key, parameter in _base(layer).named_parameters()}

    def penalty(self) -> Tensor | float:
        """AdaLoRA's orthogonality; nothing for the others."""
        if isinstance(self.tuner, AdaLoraModel):
            return adalora.penalty(self.tuner, self.layers.values())
        return 0.0

    @override
    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """AdaLoRA's rank allocation, while gradients are held."""
        if isinstance(self.tuner, AdaLoraModel):
            self.tuner.update_and_allocate(step + 1)

    def diagnostics(self) -> dict[str, Any]:
        """AdaLoRA's singular values left per layer."""
        if isinstance(self.tuner, AdaLoraModel) and self.layers:
            return {"rank": adalora.ranks(self.layers)}
        return {}

    def extra_state(self) -> dict[str, Any]:
        """AdaLoRA's smoothed importance and rank pattern."""
        return adalora.state(self.tuner) if isinstance(self.tuner, AdaLoraModel) else {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back AdaLoRA's importance and rank pattern."""
        if isinstance(self.tuner, AdaLoraModel):
            adalora.load_state(self.tuner, self.model, state)


@dataclass(kw_only=True)
class Peft(PeftBridge):
    """Any PEFT configuration: `config` holds PEFT's own keys, `peft_type` among them."""

    name: ClassVar[str] = "peft"
    config: dict[str, Any]
    total_steps: int | None = None
    """The run's optimizer steps, where they are known: AdaLoRA's schedule is over these."""

    def __post_init__(self) -> None:
        if not isinstance(self.config, dict):
            raise AdapterError(f"config must be PEFT's settings as `key: value`, not {self.config!r}")
        configuration(self.peft_settings())

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """Raise AdapterError if LoRA's rank does not fit the layer: PEFT takes what there is of it."""
        config, _ = configuration(self.peft_settings())
        if config.peft_type == PeftType.LORA:
            check_count(r=config.r)
            check_rank(config.r, linear)

    def peft_settings(self) -> dict[str, Any]:
        """The configuration as given, with the run's steps."""
        return with_steps(self.config, self.total_steps)


def _check_layers(adapter: PeftBridge) -> None:
    """Try a merge on one layer of each kind, and see that every layer has something to train."""
    for name, layer in adapter.layers.items():
        if not any(parameter.requires_grad for parameter in layer.parameters()):
            raise ValueError(f"nothing of {name} would be trained")
    plain = {name: adapter.plain(name) for name in adapter.layers}
    kinds = {(layer.weight.shape, layer.bias is None): name for name, layer in plain.items()}
    for name in kinds.values():
        try:
            adapter.folded(name)
        except (NotImplementedError, RuntimeError):
            if not plain[name].weight.is_meta:  # a model of shapes cannot compute everything
                raise


def _give_values(linear: nn.Linear | Conv1D) -> None:
    linear.to_empty(device="cpu")
    for parameter in linear.parameters():
        nn.init.normal_(parameter, std=0.02)


def _starts_from_weights(config: Any) -> bool:
    return str(getattr(config, "init_lora_weights", "")).lower().startswith(("pissa", "olora"))


def _check_patterns(config: Any, layers: Mapping[str, nn.Linear | Conv1D]) -> None:
    """An entry that fits no layer would change nothing, a rank above a layer's more than it can, and no
    one would know."""
    selected = list(layers)
    for key in ("rank_pattern", "alpha_pattern", "lambda_pattern", "n_frequency_pattern"):
        given = getattr(config, key, None) or {}
        if not isinstance(given, dict):
            raise AdapterError(f"{key} must be `layer: value`, not {given!r}")
        used = {get_pattern_key(list(given), name) for name in selected}
        for entry in given:
            if entry not in used:
                raise AdapterError(f"{key} names {entry!r}, which decides no layer{nearest(entry, selected)}")
            if key == "rank_pattern" and config.peft_type == PeftType.LORA:
                check_count(**{f"{key} of {entry}": given[entry]})
                for name in selected:
                    if get_pattern_key(list(given), name) == entry:
                        check_rank(given[entry], layers[name])
    entries = getattr(config, "feedforward_modules", None) or []
    if isinstance(entries, str) and not any(re.fullmatch(entries, name) for name in selected):
        raise AdapterError(f"feedforward_modules {entries!r} fits no adapted layer")
    for entry in entries if not isinstance(entries, str) else []:
        if not any(name.endswith(entry) for name in selected):
            raise AdapterError(f"feedforward_modules names {entry!r}, which fits no adapted layer")


def _base(layer: nn.Module) -> nn.Linear | Conv1D:
    base = _tuner_layer(layer).get_base_layer()
    assert isinstance(base, (nn.Linear, Conv1D))
    return base


def _tuner_layer(layer: nn.Module) -> Any:
    if not isinstance(layer, BaseTunerLayer):
        raise TypeError(f"{type(layer).__name__} layers are left as they are")
    return layer
