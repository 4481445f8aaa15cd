"""What is taken out of a trained adapter: merged weights, PEFT's form, numbers of parameters, its state."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.errors import AdapterError
from rankbench.adapters.forms import PeftForm
from rankbench.adapters.layers import Linear
from rankbench.adapters.quantised import count, in_four_bits, unpack, unpacked_layer
from rankbench.adapters.shards import own, part, whole

ROUNDING_TOLD = 0.01
"""The lost share of the increments that `merge` warns of: float32 stays far below it, bfloat16 keeps
three digits of a weight and an increment is often smaller."""


@dataclass(kw_only=True)
class Exported:
    """A model with adapted layers, by name. An adapter says what stood there and what is folded into it."""

    name: ClassVar[str]
    moves_base: ClassVar[bool] = False
    """Whether training also changes the frozen weights, which then belong to the state."""

    model: nn.Module = field(init=False, repr=False, compare=False)
    layers: dict[str, nn.Module] = field(default_factory=dict, init=False, repr=False, compare=False)
    heads: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    merged: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    """Names of the model's parameters that `merge` has folded increments into."""
    rounding: float | None = field(default=0.0, init=False, repr=False, compare=False)
    """The norm of what `merge` has rounded away over the norm of all increments: between 0 and 1. None where
    the frozen weights have moved: what was trained is no longer known then."""

    def plain(self, name: str) -> Linear:
        """The layer that stood in the place of an adapted one, and stands there again after `merge`."""
        raise NotImplementedError

    def folded(self, name: str) -> dict[str, Tensor]:
        """The parameters of that layer that its increment moves, by name and in its layout, with the
        increment added in float32 at least: copies."""
        raise NotImplementedError

    def exact(self, name: str) -> dict[str, Tensor]:
        """`folded` of a layer in evaluation mode: dropout that is drawn in training is no part of what was
        trained. Modes are put back."""
        modes = {module: module.training for module in self.layers[name].modules()}
        self.layers[name].eval()
        try:
            return self.folded(name)
        finally:
            for module, training in modes.items():
                module.training = training

    def weight(self, name: str) -> Tensor:
        """The effective weight (out, in) of one adapted layer, frozen part and increment, in float32
        at least: a copy."""
        exact = self.exact(name)["weight"]
        return exact.t() if isinstance(self.plain(name), Conv1D) else exact

    @torch.no_grad()
    def merge(self, model: nn.Module, *, dtype: torch.dtype | None = None) -> nn.Module:
        """Fold every increment into its weight and put the plain layers back. Returns the model.

        Weight and increment are added in float32 at least and rounded once, to the weight's own
        precision; in the place of one in four bits stands what it was packed from. The share of the
        increments that is lost by it is kept as `rounding`; more than `ROUNDING_TOLD`, or a share that is not
        known, is told as a warning.
        With `dtype` the whole model is first converted to it.
        Where processes hold parts of the weights, they all merge together, one layer after the other.

        Raises AdapterError if `dtype` is narrower than a weight of the model, and for another model than
        was attached; it is unchanged then.
        """
        if getattr(self, "model", None) is not model:
            raise AdapterError(f"this {self.name} adapter is not attached to this model; merge into its own")
        if dtype is not None:
            _widen(model, dtype)
        lost = increments = 0.0
        moved = {id(tensor) for tensor in self.moved().values()}
        known = not any(id(self.plain(name).weight) in moved for name in self.layers)
        for name in self.layers:
            held, folded = self.plain(name), self.exact(name)
            plain = unpacked_layer(held, dtype) if in_four_bits(held) else held
            for key, exact in folded.items():
                stored = plain.get_parameter(key)
                rounded = exact.to(stored.dtype)
                increments += float((exact - whole(stored)).square().sum())
                lost += float((exact - rounded).square().sum())
                own(stored).copy_(part(rounded, stored))
                if plain is held or key != "weight":  # what was packed is as it was
                    self.merged.append(f"{name}.{key}")
            model.set_submodule(name, plain)
        if dtype is not None:
            unpack(model, dtype)
        self.layers = {}
        self.rounding = (math.sqrt(lost / increments) if known else None) if lost else 0.0
        if self.rounding is None:
            said = f"merging has rounded weights that {self.name} has moved, by an unknown share of that"
        else:
            said = f"merging has rounded away {self.rounding:.1%} of what was trained"
        if self.rounding is None or self.rounding > ROUNDING_TOLD:
            warnings.warn(f"{said}; merge(model, dtype=torch.float32) keeps it", stacklevel=2)
        return model

    def peft_form(self) -> PeftForm:
        """The increments as PEFT keeps them. Raises AdapterError where no method of PEFT's holds them."""
        raise AdapterError(f"no method of PEFT's holds what {self.name} has trained")

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters: `total` of the model, `trainable`, and `adapter` without heads."""
        head = {id(p) for name in self.heads for p in self.model.get_submodule(name).parameters()}
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        return {
            "total": sum(count(p) for p in self.model.parameters()),
            "trainable": sum(p.numel() for p in trainable),
            "adapter": sum(p.numel() for p in trainable if id(p) not in head),
        }

    def extra_state(self) -> dict[str, Any]:
        """State that is neither a parameter nor a buffer: plain values and tensors."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    def moved(self) -> dict[str, Tensor]:
        """The model's own tensors that training changes, by name: what is trained, layers' buffers, and the
        buffers that the model itself would save, as running means are."""
        trained: dict[str, Tensor] = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        inside, saved = tuple(f"{name}." for name in self.layers), self.model.state_dict(keep_vars=True)
        # Of the model, not of each layer: what layers share (VeRA's projections) is there once.
        buffers = self.model.named_buffers()
        return trained | {n: buffer for n, buffer in buffers if n.startswith(inside) or n in saved}

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Everything that training moved: factors, heads, buffers, and the frozen weights where the
        adapter moves them. Without `copy` the tensors are the model's own, to be written at once."""
        tensors = {name: tensor.detach() for name, tensor in self.moved().items()}
        return {
            "tensors": {name: tensor.clone() for name, tensor in tensors.items()} if copy else tensors,
            "extra": self.extra_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict` of the same adapter on the same model. Raises AdapterError, with nothing
        changed, if names or shapes differ."""
        moved, tensors = self.moved(), state["tensors"]
        if odd := sorted(moved.keys() ^ tensors.keys()):
            where = "is in only one of them"
            raise AdapterError(f"the saved state is of another adapter or model: {odd[0]} {where}")
        for name, tensor in moved.items():
            saved, held = tuple(tensors[name].shape), tuple(tensor.shape)
            if saved != held:
                raise AdapterError(f"the saved {name} is {saved}, the model's is {held}")
        for name, tensor in moved.items():
            own(tensor).copy_(part(tensors[name], tensor))
        self.load_extra_state(state["extra"])


def _widen(model: nn.Module, dtype: torch.dtype) -> None:
    """The whole model in a precision that holds all of its values."""
    for name, parameter in model.named_parameters():
        if torch.promote_types(parameter.dtype, dtype) != dtype:
            raise AdapterError(
                f"{name} is {parameter.dtype}, which {dtype} cannot hold; merge first, then convert the model"
            )
    model.to(dtype)
