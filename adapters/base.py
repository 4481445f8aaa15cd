"""The contract that the shared loop sees, and what every adapter with layers of its own shares.

An adapter is a set of hyperparameters (a dataclass) that turns a model into one with trainable
increments. The loop calls `attach` once, then per step `penalty`, `before_step`, `after_step`,
and at the end `merge`. A new adapter is one file and one registry line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D

from adapters.errors import AdapterError as AdapterError
from adapters.errors import nearest as nearest
from adapters.targets import ends_with, select, task_head


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
    others (`full`, `peft`) override `install`, `merge` and `weight`.
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
        layer or something other than a linear layer, if a rank does not fit, or if a matched weight
        is tied to another module; the model is unchanged then.
        """
        if hasattr(self, "model"):
            raise AdapterError(f"this {self.name} adapter is attached already; create another one")
        own_heads = [
            name
            for name, _ in model.named_modules()
            if any(ends_with(name, head) for head in (task_head(model) if heads is None else heads))
        ]
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

    def weight(self, name: str) -> Tensor:
        """The effective weight (out, in) of one adapted layer: frozen part and increment."""
        layer = self.layers[name]
        assert isinstance(layer, AdapterLinear)
        return weight_of(layer.base).detach() + layer.delta().detach()

    @torch.no_grad()
    def merge(self, model: nn.Module) -> nn.Module:
        """Fold every increment into its weight and put the plain layers back. Returns the model."""
        for name, layer in self.layers.items():
            assert isinstance(layer, AdapterLinear)
            weight_of(layer.base).add_(layer.delta())
            model.set_submodule(name, layer.base)
        self.layers = {}
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
        for name, layer in self.layers.items():
            moved.update((f"{name}.{key}", buffer) for key, buffer in layer.named_buffers())
            if self.moves_base:
                assert isinstance(layer, AdapterLinear)
                moved[f"{name}.base.weight"] = layer.base.weight
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
