"""What one training step asks of the machine: counted, not timed, so that a slow day cannot fail it.

Kernels are operator calls that compute (views and allocations do not), forward, backward, clipping,
adapter and optimizer together. The floor is the same model, frozen: forward, and backward to the
embeddings. Every bound is an upper one: fewer is better, and then the bound may be lowered.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from rankbench import adapters
from rankbench.adapters.layers import AdapterLinear, weight_of
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step
from rankbench.bench.suite import Training
from rankbench.tasks import Batch
from tests.examples import example
from tests.peft_methods import NAMED, STARTS

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
TARGETS = {
    "bert": ["query", "key", "value", "dense"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
INTERVAL = 10
every_architecture = pytest.mark.parametrize("architecture", TARGETS)
every_adapter = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in (*NAMED, *STARTS) else [])
        for name in adapters.BUILT_IN
    ],
)

PER_LAYER = {
    # Six thin products: x B and its product with Aᵀ; the gradients of A, of x B, of B, and of x.
    "lora": 6,
    "rslora": 6,
    # LoRA's, and its factors from four and back, the penalty's gradient and the scored entries.
    "lora2": 24,
    # Between two scalings.
    "scalora-i": 6,
    # The gradients of weight and bias.
    "full": 2,
}
"""Most kernels that one more adapted layer adds to a step, beyond the floor's."""

SCALING_PER_LAYER, SCALING_PER_SHAPE, SCALING = 1, 42, 88
"""Most kernels of a scaling: the fold's product; stacking, Gram matrices and rescaling of all layers of one
shape at once; the systems of all layers at once."""
EXCHANGES = {"scalora-nnls": 48}
"""What the exact optimum adds to that: ten exchanges, two of four kernels and eight of six."""

READS_THE_DEVICE = {
    "adalora": "PEFT picks the values to keep by a threshold on the host, where it prunes",
    "reflora": "PyTorch's eigenvalues ask whether they were found, twice for all layers of one shape",
    "scalora-svd": "singular values ask so too, three times a layer",
}
SCALES_EVERY = {
    name: getattr(adapters.kind(name), "interval", 1)
    for name in adapters.BUILT_IN
    if adapters.kind(name).moves_base
}
UNBOUNDED = "scalora-svd"
"""A reference curve, which decomposes each layer's full gradient: nobody trains with it to save time."""
SYNCHRONISING = (
    *("_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2"),
    *("_linalg_eigh", "_linalg_svd", "_linalg_check_errors"),  # on a GPU these ask whether it went well
)


class Counts(TorchDispatchMode):
    """Kernels by name, and bytes written to the given parameters."""

    def __init__(self, watched: list[nn.Parameter]) -> None:
        super().__init__()
        self.watched = {parameter.untyped_storage().data_ptr() for parameter in watched}
        self.kernels: Counter[str] = Counter()
        self.written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if not (func.is_view or "empty" in name or name == "_unsafe_view"):
            self.kernels[name] += _launches(name, args)
        for position, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = args[position] if position < len(args) else kwargs.get(argument.name)
                for tensor in given if isinstance(given, (list, tuple)) else [given]:
                    if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() in self.watched:
                        self.written += tensor.nbytes
        return func(*args, **kwargs)


def _launches(name: str, args: Any) -> int:
    """One, also for a list of tensors; for lists whose shapes differ, one for each tensor: CUDA's `_foreach`
    takes those one by one."""
    lists = [given for given in args if isinstance(given, list | tuple) and given]
    if not name.startswith("_foreach") or len(lists) < 2 or not isinstance(lists[1][0], Tensor):
        return 1
    alike = all((x.shape, x.stride()) == (y.shape, y.stride()) for x, y in zip(*lists[:2], strict=True))
    return 1 if alike else len(lists[0])


class Step(NamedTuple):
    kernels: int
    synchronisations: int
    written: int


def tiny(architecture: str, blocks: int) -> nn.Module:
    config = AutoConfig.for_model(architecture, **SIZES, num_hidden_layers=blocks, pad_token_id=0)
    auto = AutoModelForSequenceClassification if architecture == "bert" else AutoModelForCausalLM
    model: nn.Module = auto.from_config(config)
    return model.train()


def loss(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    # Without a mask: given one, transformers' own forward pass asks whether it masks anything.
    logits = model(input_ids=inputs["input_ids"]).logits
    return functional.cross_entropy(logits.flatten(0, -2), inputs["labels"], reduction="sum")


def batch(architecture: str) -> Batch:
    tokens = torch.randint(1, 64, (4, 7), generator=torch.Generator().manual_seed(0))
    return Batch(
        {"input_ids": tokens, "labels": tokens[:, 0] % 2 if architecture == "bert" else tokens.flatten()}, 4
    )


@cache
def floor(architecture: str, blocks: int) -> int:
    """Kernels of the frozen model."""
    model = tiny(architecture, blocks).requires_grad_(False)
    embeddings: Any = model
    embeddings.get_input_embeddings().register_forward_hook(lambda _m, _i, output: output.requires_grad_())
    with Counts([]) as counts:
        loss(model, batch(architecture).inputs).backward()
    return counts.kernels.total()


class Trained(NamedTuple):
    steps: list[Step]
    layers: int
    shapes: int
    nbytes: int
    """Of the adapted frozen weights."""


@cache
def trained(name: str, architecture: str, blocks: int, dtype: torch.dtype = torch.float32) -> Trained:
    """Three steps; of what scales, an interval and the next one's first."""
    model = tiny(architecture, blocks).to(dtype)
    adapter = example(name, steps=8, learning_rate=1e-3)
    adapter.attach(model, TARGETS[architecture])
    accelerator = make_accelerator()
    settings = Training(steps=20, batch_size=4, learning_rate=1e-3)
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(adapter, settings))
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    steps = []
    for step in range(INTERVAL + 1 if name in SCALES_EVERY else 3):
        with Counts(frozen) as counts:
            optimizer_step(
                accelerator, wrapped, adapter, optimizer, loss, [batch(architecture)],
                step=step, weight=4.0, clip=1.0,
            )  # fmt: skip
        reads = sum(counts.kernels[kind] for kind in SYNCHRONISING)
        steps.append(Step(counts.kernels.total(), reads, counts.written))
    weights = [weight_of(m.base) for m in adapter.layers.values() if isinstance(m, AdapterLinear)]
    shapes = {weight.shape for weight in weights}
    return Trained(steps, len(adapter.layers), len(shapes), sum(weight.nbytes for weight in weights))


@every_architecture
@every_adapter
def test_no_step_waits_for_the_device(name, architecture):
    reads = sum(step.synchronisations for step in trained(name, architecture, 2).steps)
    if name in READS_THE_DEVICE:
        assert reads, f"{name} does not wait any more: take it off the list"
    else:
        assert reads == 0, f"{name} reads {reads} values on the host"


@pytest.mark.parametrize("name", [name for name in READS_THE_DEVICE if name != UNBOUNDED])
def test_what_waits_does_not_wait_more_for_more_layers(name):
    two, three = (sum(step.synchronisations for step in trained(name, "bert", n).steps) for n in (2, 3))
    assert two == three


def test_a_wait_is_counted():
    with Counts([]) as counts:
        assert torch.ones(()).item()
        assert (torch.ones(2) > 0).all()
    assert counts.kernels["_local_scalar_dense"] == 2


@every_architecture
@pytest.mark.parametrize("name", PER_LAYER)
def test_kernels_of_one_more_layer(name, architecture):
    two, three = (trained(name, architecture, blocks) for blocks in (2, 3))
    # After the first step, which makes the optimizer's state, and before the next scaling.
    added = three.steps[1].kernels - two.steps[1].kernels
    beyond = added - (floor(architecture, 3) - floor(architecture, 2))
    assert beyond <= PER_LAYER[name] * (three.layers - two.layers)


@every_architecture
@every_adapter
def test_a_step_grows_linearly_in_the_layers(name, architecture):
    one, two, three = (trained(name, architecture, blocks).steps[1].kernels for blocks in (1, 2, 3))
    assert three - two == two - one


@every_architecture
def test_rslora_and_scalora_between_scalings_cost_what_lora_costs(architecture):
    lora = trained("lora", architecture, 2).steps[-1].kernels
    assert trained("rslora", architecture, 2).steps[-1].kernels == lora
    between = trained("scalora-i", architecture, 2).steps[1:INTERVAL]
    assert {step.kernels for step in between} == {lora}


@every_architecture
@pytest.mark.parametrize("name", [name for name in SCALES_EVERY if name != UNBOUNDED])
def test_kernels_of_a_scaling(name, architecture):
    lora, scaled = trained("lora", architecture, 3), trained(name, architecture, 3)
    extra = scaled.steps[-1].kernels - lora.steps[-1].kernels
    once = SCALING + EXCHANGES.get(name, 0)
    assert 0 < extra <= SCALING_PER_LAYER * scaled.layers + SCALING_PER_SHAPE * scaled.shapes + once


@every_architecture
@pytest.mark.parametrize("name", [name for name in SCALES_EVERY if name != UNBOUNDED])
def test_a_fold_into_bfloat16_takes_no_more_kernels_for_more_layers(name, architecture):
    """But for the fold's product: those of a pair are ten for all layers of one shape."""
    half, whole = (trained(name, architecture, 3, dtype) for dtype in (torch.bfloat16, torch.float32))
    plain = [trained("lora", architecture, 3, dtype) for dtype in (torch.bfloat16, torch.float32)]
    of_half, of_whole = (
        scaled.steps[-1].kernels - lora.steps[-1].kernels
        for scaled, lora in zip((half, whole), plain, strict=True)
    )
    assert of_whole < of_half <= of_whole + 10 * half.shapes


@every_architecture
@pytest.mark.parametrize("name", SCALES_EVERY)
def test_folds_into_bfloat16_write_it_once_and_wait_for_nothing(name, architecture):
    run = trained(name, architecture, 2, torch.bfloat16)
    assert (name in READS_THE_DEVICE) == bool(sum(step.synchronisations for step in run.steps))
    for number, step in enumerate(run.steps):
        assert step.written == (run.nbytes if number % SCALES_EVERY[name] == 0 else 0), f"step {number}"


@every_architecture
@every_adapter
def test_frozen_weights_are_written_once_a_scaling_and_never_otherwise(name, architecture):
    run = trained(name, architecture, 2)
    for number, step in enumerate(run.steps):
        scaling = name in SCALES_EVERY and number % SCALES_EVERY[name] == 0
        assert step.written == (run.nbytes if scaling else 0), f"step {number}"
