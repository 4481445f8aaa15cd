"""The contract that the shared loop sees: hyperparameters that turn a model into one with trainable
increments.

The loop calls `attach` and `before_training` once, asks for `parameter_groups`, then per step `penalty`,
`before_step`, `after_step`, and at the end `merge`. A new adapter is one file and one registry line
(docs/add-an-adapter.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

from rankbench.adapters.errors import AdapterError, check_count
from rankbench.adapters.export import Exported
from rankbench.adapters.layers import AdapterLinear, Linear, check_rank
from rankbench.adapters.quantised import in_four_bits
from rankbench.adapters.shards import whole
from rankbench.adapters.targets import named_heads, select, task_head
from rankbench.adapters.targets.refusals import refuse_adapted


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate: at every step `rate` times the run's."""

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0


@dataclass(frozen=True)
class FirstBatch:
    """One of the micro-batches that a run begins with: what the model is given, on its device, and the mean
    loss (a scalar), computed when it is asked for."""

    inputs: Mapping[str, Tensor]
    loss: Callable[[], Tensor]


Range = tuple[float, float, Literal["linear", "log"]]
"""Ends of what a hyperparameter is worth trying at, and on which scale it is drawn evenly."""


@dataclass(kw_only=True)
class Adapter(Exported):
    """Hyperparameters, and after `attach` the layers they made: `install`, `plain` and `folded` say which."""

    version: ClassVar[int] = 1
    """Raised when the same hyperparameters would give other numbers: part of every fingerprint."""
    example: ClassVar[dict[str, Any]] = {}
    """Hyperparameters that fit layers of a few rows: what the tests run an adapter at."""
    space: ClassVar[Mapping[str, Range]] = {"learning_rate": (1e-4, 1e-2, "log")}
    """What tuning draws where a suite does not say: hyperparameter -> range, the run's learning rate among
    them."""
    one_process: ClassVar[str] = ""
    """Why several processes cannot share a run of it; empty where they can."""
    not_over: ClassVar[Mapping[str, str]] = {}
    """What frozen weights are held in ("bfloat16", "nf4") -> why it cannot train beside those, with the way
    out."""

    matched: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Entry of the targets -> the number of layers that it names."""
    _required: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """Names of the model's parameters that asked for gradients before it was attached."""

    @classmethod
    def space_of(cls, given: Mapping[str, Any]) -> Mapping[str, Range]:  # noqa: ARG003 -- for overriding
        """`space`, of an entry that has these hyperparameters: they may say which method it is."""
        return cls.space

    def settings(self) -> dict[str, Any]:
        """Every hyperparameter with its value, defaults too."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.init}

    def attach(
        self,
        model: nn.Module,
        targets: str | Sequence[str],
        *,
        heads: Sequence[str] | None = None,
        generator: Generator | None = None,
    ) -> nn.Module:
        """Freeze the model, adapt the target layers in place, keep the task head trainable.

        `targets`: PEFT's semantics: a list of exact names or name endings, or one regular expression
        matched against the whole name. `heads`: the modules trained whole, named so too, by default those
        outside the backbone of a model with a task's head. `generator` draws the initial factors.

        Raises AdapterError, with the model unchanged, if an entry of the targets (or an alternative of the
        expression) names no layer or something other than a linear layer, one of the heads names nothing, a
        rank does not fit, a matched weight is tied to another module, or the model has an adapter already.
        """
        if hasattr(self, "model"):
            raise AdapterError(f"this {self.name} adapter is attached already; create another one")
        refuse_adapted(model)
        own_heads = named_heads(model, task_head(model) if heads is None else heads)
        selected, matched = select(model, targets, heads=own_heads)
        for name, linear in selected.items():
            try:
                if in_four_bits(linear) and (why := self.why_not_over("nf4")):
                    raise AdapterError(why)
                self.check(linear)
            except AdapterError as error:
                raise AdapterError(f"{self.name} on {name}: {error}") from None
        required = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.install(model, selected, generator)
        self._required = required
        self.model, self.heads, self.matched = model, own_heads, matched
        for name in own_heads:
            model.get_submodule(name).requires_grad_(True)
        return model

    def detach(self) -> list[str]:
        """Take the adapter off its model, merged or not: the plain layers stand in their places again, and
        parameters ask for gradients as they did before `attach`. This adapter is used up.

        No value is put back: returns the names of the model's parameters that may have others than before,
        by training, by a start that changes them, or by `merge`.
        """
        moved = {id(tensor) for tensor in self.moved().values()}
        for name in self.layers:
            self.model.set_submodule(name, self.plain(name))
        self.layers = {}
        names = []
        for name, parameter in self.model.named_parameters():
            if id(parameter) in moved or name in self.merged:
                names.append(name)
            parameter.grad = None
            parameter.requires_grad_(name in self._required)
        return names

    def why_not_over(self, weights: str) -> str:
        """The reason that `not_over` has for these; empty where it can train beside them."""
        return self.not_over.get(weights, "")

    def check(self, linear: Linear) -> None:
        """Raise AdapterError if this layer cannot be adapted."""

    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        """Say what is trained, and fill `layers`: the selected names, with what stands there from now on."""
        raise NotImplementedError

    def before_training(self, batches: Iterator[FirstBatch]) -> None:
        """For a start that reads data: `batches` are those that the run begins with, made one by one as they
        are asked for, the model in evaluation mode. Called at the beginning of every leg of a run, before a
        checkpoint is put back. Must not draw from the global generators."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """All that is trained, each parameter in one group; the curve of a record shows the first one's
        rate. Asked for once, when the optimizer is made."""
        return [ParameterGroup(self.trained())]

    def trained(self) -> list[nn.Parameter]:
        """The model's parameters that are trained, the adapter's and the heads', in the model's order."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

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


@dataclass(kw_only=True)
class LayerAdapter(Adapter):
    """An adapter with layers of its own, each a frozen one and its increment: `wrap` makes one."""

    def wrap(self, linear: Linear, generator: Generator | None) -> AdapterLinear:
        """One layer with its increment, on the layer's device, equal to it at the start."""
        raise NotImplementedError

    @override
    def install(self, model: nn.Module, selected: dict[str, Linear], generator: Generator | None) -> None:
        model.requires_grad_(False)
        self.layers = {name: self.wrap(linear, generator) for name, linear in selected.items()}
        for name, layer in self.layers.items():
            model.set_submodule(name, layer)

    @override
    def plain(self, name: str) -> Linear:
        layer = self.layers[name]
        assert isinstance(layer, AdapterLinear)
        return layer.base

    @override
    def folded(self, name: str) -> dict[str, Tensor]:
        layer = self.layers[name]
        assert isinstance(layer, AdapterLinear)
        delta, weight = layer.delta().detach(), whole(layer.frozen())
        return {"weight": weight + (delta.t() if isinstance(layer.base, Conv1D) else delta)}

    @override
    def moved(self) -> dict[str, Tensor]:
        frozen = self.layers if self.moves_base else ()
        return super().moved() | {f"{name}.base.weight": self.plain(name).weight for name in frozen}


@dataclass(kw_only=True)
class Ranked(Adapter):
    """An adapter whose rank must fit every layer."""

    example: ClassVar[dict[str, Any]] = {"rank": 2}
    rank: int = 8

    def __post_init__(self) -> None:
        check_count(rank=self.rank)

    @override
    def check(self, linear: Linear) -> None:
        check_rank(self.rank, linear)
