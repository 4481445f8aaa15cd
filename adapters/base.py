"""The contract that the shared loop sees, and what every adapter with layers of its own shares.

An adapter is a set of hyperparameters (a dataclass) that turns a model into one with trainable
increments. The loop calls `attach` once, then per step `penalty`, `before_step`, `after_step`,
and at the end `merge`. A new adapter is one file and one registry line.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D

from rankbench.adapters.errors import AdapterError as AdapterError
from rankbench.adapters.errors import nearest as nearest
from rankbench.adapters.targets import named_heads, select, task_head

ROUNDING_TOLD = 0.01
"""The lost share of the increments that `merge` warns of: float32 stays far below it, bfloat16 keeps
three digits of a weight and an increment is often smaller."""


def weight_of(linear: nn.Module) -> Tensor:
    """The weight as (out, in), a view: `Conv1D` (GPT-2) stores it as (in, out)."""
    weight = linear.weight
    assert isinstance(weight, Tensor)
    return weight.t() if isinstance(linear, Conv1D) else weight


class AdapterLinear(nn.Module):
    """A frozen linear layer and its increment: `base` and `delta()` -> (out, in)."""

    base: nn.Linear | Conv1D

    def __init__(self, base: nn.Linear | Conv1D) -> None:
        super().__init__()
        self.base = base

    def delta(self) -> Tensor:
        """The increment that `merge` adds to the frozen weight, (out, in)."""
        raise NotImplementedError


@dataclass(kw_only=True)
class Adapter:
    """Hyperparameters, and after `attach` the layers they made.

    Subclasses with layers of their own define `wrap` (and `check`, if a layer can be unfit); the
    others (`full`, `peft`) override `install`, `plain` and `folded`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when the same hyperparameters would give other numbers: part of every fingerprint."""
    moves_base: ClassVar[bool] = False
    """Whether training also changes the frozen weights, which then belong to the state."""

    model: nn.Module = field(init=False, repr=False, compare=False)
    layers: dict[str, nn.Module] = field(default_factory=dict, init=False, repr=False, compare=False)
    heads: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    matched: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Entry of the targets -> the number of layers that it names."""
    rounding: float = field(default=0.0, init=False, repr=False, compare=False)
    """The norm of what `merge` has rounded away over the norm of all increments: between 0 and 1."""

    def attach(
        self,
        model: nn.Module,
        targets: str | Sequence[str],
        *,
        heads: Sequence[str] | None = None,
        generator: torch.Generator | None = None,
    ) -> nn.Module:
        """Freeze the model, adapt the target layers in place, keep the task head trainable.

        `targets`: PEFT's semantics: a list of exact names or name endings, or one regular
        expression matched against the whole name. `heads`: names or name endings of the modules that
        are trained whole, by default those outside the backbone of a model with a task's head.
        `generator` draws the initial factors. Returns the same model.

        Raises AdapterError if an entry of the targets (or an alternative of the expression) names no
        layer or something other than a linear layer, if one of the heads names nothing, if a rank does
        not fit, if a matched weight is tied to another module, or if the model has an adapter already;
        the model is unchanged then.
        """
        if hasattr(self, "model"):
            raise AdapterError(f"this {self.name} adapter is attached already; create another one")
        if any(
            isinstance(module, AdapterLinear) or type(module).__module__.startswith("peft.")
            for module in model.modules()
        ):
            raise AdapterError("the model has an adapter already, which would be frozen; merge it first")
        own_heads = named_heads(model, task_head(model) if heads is None else heads)
        selected, matched = select(model, targets, heads=own_heads)
        for name, linear in selected.items():
            try:
                self.check(linear)
            except AdapterError as error:
                raise AdapterError(f"{self.name} on {name}: {error}") from None
        self.install(model, selected, generator)
        self.model, self.heads, self.matched = model, own_heads, matched
        for name in own_heads:
            model.get_submodule(name).requires_grad_(True)
        return model

    def settings(self) -> dict[str, Any]:
        """Every hyperparameter with its value, defaults too."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def check(self, linear: nn.Linear | Conv1D) -> None:
        """Raise AdapterError if this layer cannot be adapted."""

    def install(
        self, model: nn.Module, selected: dict[str, nn.Linear | Conv1D], generator: torch.Generator | None
    ) -> None:
        """Freeze the model and put the adapted layers in the places of the selected ones."""
        model.requires_grad_(False)
        self.layers = {name: self.wrap(linear, generator) for name, linear in selected.items()}
        for name, layer in self.layers.items():
            model.set_submodule(name, layer)

    def wrap(self, linear: nn.Linear | Conv1D, generator: torch.Generator | None) -> AdapterLinear:
        """One layer with its increment, on the layer's device, equal to it at the start."""
        raise NotImplementedError

    def penalty(self) -> Tensor | float:
        """A regulariser added to the task loss, logged apart from it."""
        return 0.0

    def before_step(self, optimizer: Optimizer, step: int) -> None:
        """Gradients are ready and clipped, the optimizer has not moved; `step` counts from 0."""

    def after_step(self, optimizer: Optimizer, step: int) -> None:
        """Weights have moved, gradients are still held."""

    def diagnostics(self) -> dict[str, Any]:
        """Plain JSON values for the record."""
        return {}

    def plain(self, name: str) -> nn.Linear | Conv1D:
        """The layer that stood in the place of an adapted one, and stands there again after `merge`."""
        layer = self.layers[name]
        assert isinstance(layer, AdapterLinear)
        return layer.base

    def folded(self, name: str) -> dict[str, Tensor]:
        """The parameters of that layer that its increment moves, by name and in its layout, with the
        increment added in float32 at least: copies."""
        layer = self.layers[name]
        assert isinstance(layer, AdapterLinear)
        delta = layer.delta().detach()
        weight = layer.base.weight.detach()
        return {"weight": weight + (delta.t() if isinstance(layer.base, Conv1D) else delta)}

    def weight(self, name: str) -> Tensor:
        """The effective weight (out, in) of one adapted layer, frozen part and increment, in float32
        at least: a copy."""
        exact = self.folded(name)["weight"]
        return exact.t() if isinstance(self.plain(name), Conv1D) else exact

    @torch.no_grad()
    def merge(self, model: nn.Module, *, dtype: torch.dtype | None = None) -> nn.Module:
        """Fold every increment into its weight and put the plain layers back. Returns the model.

        Weight and increment are added in float32 at least and rounded once, to the weight's own
        precision. The share of the increments that is lost by it is kept as `rounding`; more than
        `ROUNDING_TOLD` is told as a warning. With `dtype` the whole model is first converted to it.

        Raises AdapterError if `dtype` is narrower than a weight of the model, and for another model than
        was attached; it is unchanged then.
        """
        if getattr(self, "model", None) is not model:
            raise AdapterError(f"this {self.name} adapter is not attached to this model; merge into its own")
        if dtype is not None:
            _convert(model, dtype)
        lost = increments = 0.0
        for name in list(self.layers):
            plain = self.plain(name)
            for key, exact in self.folded(name).items():
                stored = plain.get_parameter(key)
                increments += float((exact - stored).square().sum())
                stored.copy_(exact)
                lost += float((exact - stored).square().sum())
            model.set_submodule(name, plain)
        self.layers = {}
        self.rounding = math.sqrt(lost / increments) if increments else 0.0
        if self.rounding > ROUNDING_TOLD:
            warnings.warn(
                f"merging has rounded away {self.rounding:.1%} of what was trained; "
                "merge(model, dtype=torch.float32) keeps it",
                stacklevel=2,
            )
        return model

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters: `total` of the model, `trainable`, and `adapter` without heads."""
        head = {id(p) for name in self.heads for p in self.model.get_submodule(name).parameters()}
        trainable = [p for p in self.model.parameters() if p.requires_grad]
        return {
            "total": sum(p.numel() for p in self.model.parameters()),
            "trainable": sum(p.numel() for p in trainable),
            "adapter": sum(p.numel() for p in trainable if id(p) not in head),
        }

    def extra_state(self) -> dict[str, Any]:
        """State that is neither a parameter nor a buffer: plain values and tensors."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""

    def _moved(self) -> dict[str, Tensor]:
        """Everything that training changes, by its name in the model."""
        moved: dict[str, Tensor] = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        inside = tuple(f"{name}." for name in self.layers)
        # Of the model, not of each layer: what layers share (VeRA's projections) is there once.
        moved.update((n, buffer) for n, buffer in self.model.named_buffers() if n.startswith(inside))
        if self.moves_base:
            moved.update((f"{name}.base.weight", self.plain(name).weight) for name in self.layers)
        return moved

    def state_dict(self, *, copy: bool = True) -> dict[str, Any]:
        """Everything that training moved: factors, heads, buffers, and the frozen weights where the
        adapter moves them. Without `copy` the tensors are the model's own, to be written at once."""
        tensors = {name: tensor.detach() for name, tensor in self._moved().items()}
        return {
            "tensors": {name: tensor.clone() for name, tensor in tensors.items()} if copy else tensors,
            "extra": self.extra_state(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict` of the same adapter on the same model.

        Raises AdapterError if names or shapes differ; nothing is changed then.
        """
        moved, tensors = self._moved(), state["tensors"]
        if moved.keys() != tensors.keys():
            odd = sorted(moved.keys() ^ tensors.keys())[0]
            raise AdapterError(
                f"the saved state is of another adapter or model: {odd} is in only one of them"
            )
        for name, tensor in moved.items():
            if tensor.shape != tensors[name].shape:
                raise AdapterError(
                    f"the saved {name} is {tuple(tensors[name].shape)}, the model's is {tuple(tensor.shape)}"
                )
        for name, tensor in moved.items():
            tensor.copy_(tensors[name])
        self.load_extra_state(state["extra"])


def _convert(model: nn.Module, dtype: torch.dtype) -> None:
    """The whole model in a precision that holds all of its values."""
    for name, parameter in model.named_parameters():
        if torch.promote_types(parameter.dtype, dtype) != dtype:
            raise AdapterError(
                f"{name} is {parameter.dtype}, which {dtype} cannot hold; merge first, then convert the model"
            )
    model.to(dtype)


def check_rank(rank: int, linear: nn.Linear | Conv1D) -> None:
    """Raise AdapterError unless 1 <= rank <= min(out, in)."""
    smaller = min(weight_of(linear).shape)
    if not 1 <= rank <= smaller:
        raise AdapterError(f"rank {rank} is not between 1 and {smaller}, the layer's smaller side")


def check_full_precision(linear: nn.Linear | Conv1D) -> None:
    """Raise AdapterError for a half-precision weight, which would round small folds into it away."""
    dtype = weight_of(linear).dtype
    if dtype not in (torch.float32, torch.float64):
        raise AdapterError(
            f"the weight is {dtype} and would round small folds away; "
            "load the model in float32 and train with mixed precision instead"
        )


def check_positive(**values: float) -> None:
    """Raise AdapterError naming the first hyperparameter that is not a positive number."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise AdapterError(f"{key} must be a positive number, not {value!r}")


def check_count(**values: int) -> None:
    """Raise AdapterError naming the first hyperparameter that is not a positive whole number."""
    for key, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise AdapterError(f"{key} must be a positive whole number, not {value!r}")
