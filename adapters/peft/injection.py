"""PEFT's layers in the places of a model's own, without the wrapper: all of them, or the model as it was."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from rankbench.adapters.layers import Linear, shape_of, weight_of
from rankbench.adapters.peft.support import reads_weights
from rankbench.adapters.quantised import in_four_bits
from rankbench.adapters.shards import copied

ADAPTER = "default"
"""PEFT's name for the one adapter of a model."""


def inject(
    model: nn.Module, config: Any, kind: type[BaseTuner], selected: dict[str, Linear], seed: int
) -> tuple[BaseTuner, list[str]]:
    """Have PEFT replace the selected layers. Returns its tuner, and the names of layers whose frozen weight
    the start has changed (PiSSA, OLoRA, …). Raises whatever PEFT does, and ValueError or TypeError for layers
    that stay as they are, have nothing to train or cannot be merged; the model is as before then.

    A start that is computed from the weights is so in main memory, and does not depend on the device. A model
    of shapes ("meta") has no weights for that: PiSSA's and OLoRA's have the shapes of LoRA's own, and for
    others its layers are given some.
    """
    meta = any(linear.weight.is_meta for linear in selected.values())
    # What is in four bits no start changes: those that would are refused.
    wide = {name: linear for name, linear in selected.items() if not in_four_bits(linear)}
    read = {} if meta or not reads_weights(config) else wide
    places = {name: linear.weight.data for name, linear in read.items()}
    before = {name: weight_of(linear.cpu()).clone() for name, linear in read.items()}
    if meta and str(getattr(config, "init_lora_weights", "")).lower().startswith(("pissa", "olora")):
        config.init_lora_weights = True
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def put_back() -> None:
        for name, linear in selected.items():
            model.set_submodule(name, linear)
            if name in before:
                weight_of(linear).data.copy_(before[name])
        for parameter in trainable:
            parameter.requires_grad_(True)

    try:
        try:
            tuner = _tuner(model, copy.deepcopy(config), kind, selected, seed)
        except RuntimeError:
            if not meta:
                raise
            put_back()
            for linear in selected.values():
                linear.to_empty(device="cpu")
                for parameter in linear.parameters():
                    nn.init.normal_(parameter, std=0.02)
            tuner = _tuner(model, config, kind, selected, seed)
        now = {name: weight_of(base_of(model.get_submodule(name))) for name in before}
        return tuner, [name for name, weight in before.items() if not torch.equal(weight, now[name])]
    except Exception:
        put_back()
        raise
    finally:
        for name, place in places.items():
            model.get_submodule(name).to(place.device)
            _put_there(read[name].weight, place)


def _put_there(weight: Tensor, place: Tensor) -> None:
    """A frozen weight back into the memory where it lay: of a model that is lent, that is held anyway."""
    if weight.data_ptr() != place.data_ptr() and (weight.shape, weight.dtype) == (place.shape, place.dtype):
        weight.data = place.copy_(weight.data)


def _tuner(
    model: nn.Module, config: Any, kind: type[BaseTuner], selected: dict[str, Linear], seed: int
) -> BaseTuner:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), warnings.catch_warnings():
        torch.manual_seed(seed)
        # OFT takes another block size than the one asked for, where that does not divide the layer.
        warnings.filterwarnings("error", message=".*Adjusted")
        tuner = kind(model, config, ADAPTER)
    del model.peft_config  # a mark of PEFT's wrapper, which is not there
    tuner._cast_adapter_dtype(ADAPTER)
    model.train(model.training)
    _check({name: tuner_layer(model.get_submodule(name)) for name in selected})
    return tuner


def _check(layers: dict[str, Any]) -> None:
    """See that every layer has something to train, and try a merge on one of each kind."""
    kinds = {}
    for name, layer in layers.items():
        if not any(parameter.requires_grad and parameter.numel() for parameter in layer.parameters()):
            raise ValueError(f"nothing of {name} would be trained")
        plain = base_of(layer)
        kinds[plain.weight.shape, plain.bias is None] = layer
    for layer in kinds.values():
        try:
            merged(layer)
        except (NotImplementedError, RuntimeError):
            if not base_of(layer).weight.is_meta:  # a model of shapes cannot compute everything
                raise


@torch.no_grad()
def merged(layer: nn.Module) -> dict[str, Tensor]:
    """The parameters of a merged copy of one layer, added up by PEFT in float32 at least."""
    if type(layer).__module__.endswith(".bnb"):
        return _read_off(layer)
    alike = copied(tuner_layer(layer))
    base = base_of(alike)
    base.to(torch.promote_types(base.weight.dtype, torch.float32))
    alike.merge()
    return {key: parameter.detach() for key, parameter in base_of(alike).named_parameters()}


def _read_off(layer: nn.Module) -> dict[str, Tensor]:
    """The same of PEFT's layers for four bits, whose own merge would pack the sum again: what one makes of
    each unit vector, and of none. Products with units are exact; a bias in them would not be."""
    alike = copied(tuner_layer(layer)).eval()
    base = base_of(alike)
    units = torch.eye(shape_of(base)[1], device=base.weight.device)
    nothing = torch.zeros_like(units[:1])
    bias = None if base.bias is None else alike(nothing)[0]
    base.bias = None
    weight = (alike(units) - alike(nothing)).t()
    return {"weight": weight} if bias is None else {"weight": weight, "bias": bias}


def base_of(layer: nn.Module) -> Linear:
    """The layer that PEFT has wrapped."""
    base = tuner_layer(layer).get_base_layer()
    assert isinstance(base, Linear)
    return base


def tuner_layer(layer: nn.Module) -> Any:
    """A layer of PEFT's. Raises TypeError for another."""
    if not isinstance(layer, BaseTunerLayer):
        raise TypeError(f"{type(layer).__name__} layers are left as they are")
    return layer
