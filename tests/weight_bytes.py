"""What a training step does with the frozen weights, counted operation by operation.

`python -m tests.weight_bytes` prints the table of docs/gpu.md. A whole copy of a weight is what an operation
writes that has as many numbers or more: a cast, an unpacked weight, the weight with something added, a stack;
of products only what has as many. What is read is what such operations and products are given of a weight or
of a copy. It is counted on the CPU; on a GPU the same operations are asked for, and may read a thing again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankbench import adapters
from rankbench.adapters.quantised import count
from rankbench.bench import models
from rankbench.bench.cost.step import RandomTokens
from rankbench.bench.models.known import ARCHITECTURES, REGISTERED, Registered
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step
from rankbench.bench.suite import Model, Training
from rankbench.tasks import Head

TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
"""The papers', of Llama."""
PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "bitsandbytes::gemm_4bit"}
SHAPES = "weight-bytes"
"""A sixteenth of Llama 3 8B in each direction, two layers of it."""


@dataclass
class Traffic(TorchDispatchMode):
    """Bytes of frozen weights and of whole copies of them."""

    weights: Sequence[nn.Parameter]
    copied: Counter[str] = field(default_factory=Counter)
    """Operation -> bytes of whole copies that it has written."""
    passes: Counter[str] = field(default_factory=Counter)
    """The same, of the forward and the backward pass: without what an adapter does before the optimizer."""
    read: int = 0
    kept: dict[int, int] = field(default_factory=dict)
    """Copies that the backward pass has been left, by their place in memory."""
    _sizes: dict[int, int] = field(default_factory=dict)
    _copies: list[Tensor] = field(default_factory=list)
    """Held, so that nothing else takes their places."""

    def __post_init__(self) -> None:
        super().__init__()
        for parameter in self.weights:
            self._sizes[_place(parameter.data)] = count(parameter)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        weights = [tensor for tensor in given if _place(tensor) in self._sizes]
        out = func(*args, **(kwargs or {}))
        if not weights or func.is_view or func.name().startswith("aten::embedding"):  # reads a few rows
            return out
        self.read += sum(tensor.nbytes for tensor in weights)
        numbers = self._sizes[_place(weights[0])]
        name = func.name().partition(".")[0]
        if name.endswith("gemm_4bit"):  # it unpacks for all but the fewest rows, out of our sight
            self.copied[name] += 2 * numbers
            self.read += 2 * numbers
        for made in tree_leaves(out):
            if not isinstance(made, Tensor) or _place(made) in self._sizes:
                continue
            if made.numel() == numbers or (made.numel() > numbers and name not in PRODUCTS):
                self.copied[name] += made.nbytes
                self._sizes[_place(made)] = made.numel()
                self._copies.append(made)
        return out

    def pack(self, tensor: Tensor) -> Tensor:
        """Of what autograd saves, note copies."""
        if any(_place(tensor) == _place(copy) for copy in self._copies):
            self.kept[_place(tensor)] = tensor.untyped_storage().nbytes()
        return tensor


def _place(tensor: Tensor) -> int:
    if tensor.layout is not torch.strided:  # SHiRA's increment
        return -1
    return tensor.untyped_storage().data_ptr()


def frozen(module: nn.Module) -> list[nn.Parameter]:
    """The frozen matrices in it."""
    return [p for p in module.parameters() if not p.requires_grad and (p.ndim > 1 or _packing(p))]


def held(weights: Sequence[nn.Parameter]) -> int:
    """Bytes that they take, the scales of packed ones included."""
    scales = [packing.absmax for packing in map(_packing, weights) if packing]
    return sum(tensor.nbytes for tensor in [*weights, *scales])


def _packing(parameter: nn.Parameter) -> Any:
    return getattr(parameter, "quant_state", None)


def step(adapter: adapters.Adapter, precision: str, weights: Sequence[nn.Parameter]) -> Traffic:
    """Of one step of a causal model, after another one: some methods do more in later ones."""
    tokens = RandomTokens(True, 3, 7)  # rows that make no activation as large as a small weight
    accelerator = make_accelerator(precision)
    training = Training(steps=2, batch_size=3, learning_rate=1e-3)
    model, optimizer = accelerator.prepare(adapter.model.train(), make_optimizer(adapter, training))
    traffic = Traffic(weights)
    batch = tokens.draw(adapter.model.config)

    def one(number: int) -> None:
        optimizer_step(
            accelerator, model, adapter, optimizer, tokens.loss, [batch], step=number, weight=3, clip=1.0
        )

    one(0)
    own = adapter.before_step

    def before_step(optimizer: torch.optim.Optimizer, number: int) -> None:
        traffic.passes = traffic.copied.copy()
        own(optimizer, number)

    adapter.before_step = before_step  # type: ignore[method-assign]
    with traffic, saved_tensors_hooks(traffic.pack, lambda tensor: tensor):
        one(10)  # at which every method that does something at times does it
    return traffic


@contextmanager
def small_llama() -> Iterator[str]:
    """The name of a model that is known meanwhile."""
    shape = ARCHITECTURES["meta-llama/Meta-Llama-3-8B"]
    small = {key: shape[key] // 16 for key in ("hidden_size", "intermediate_size")}
    config = shape | small | {"num_hidden_layers": 2, "vocab_size": 512}
    REGISTERED[SHAPES] = Registered(config, licence="random weights")
    try:
        yield SHAPES
    finally:
        del REGISTERED[SHAPES]


def rows(name: str) -> Iterator[list[Any]]:
    """Of the table: bytes a weight."""
    peft = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}
    for weights, precision in (("float32", "bf16"), ("bfloat16", "no"), ("nf4", "no")):
        for label, made in (
            ("ours", adapters.create("lora", rank=8)),
            ("PEFT's", adapters.create("peft", config=peft)),
        ):
            model = models.load_headed(Model(name=name, weights=weights), Head("causal"), 0)
            made.attach(model, TARGETS, generator=torch.Generator().manual_seed(0))
            matrices = frozen(model.base_model.layers)
            traffic, numbers = step(made, precision, matrices), sum(map(count, matrices))
            figures = held(matrices), traffic.read, traffic.copied.total(), sum(traffic.kept.values())
            told = f"{weights}, autocast" if precision == "bf16" else weights
            yield [told, label, *(f"{bytes_ / numbers:.2f}" for bytes_ in figures)]


def table() -> str:
    """As Markdown."""
    header = ["frozen weights", "LoRA", "held", "read", "copied", "copies held for the backward pass"]
    with small_llama() as name:
        return tabulate([*rows(name)], header, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    print(table())
