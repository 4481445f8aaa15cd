"""A bfloat16 weight with its remainder is the float32 weight: its bits, in training, in what is taken out."""

from __future__ import annotations

import copy
import io
import itertools
import sys
from collections.abc import Iterator
from functools import partial
from subprocess import CalledProcessError
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.optim import AdamW
from torch.utils._python_dispatch import TorchDispatchMode

from rankbench import adapters
from rankbench.adapters import Adapter, pairs
from rankbench.adapters.pairs import add_products, joined, split
from rankbench.adapters.scalora.layers import FoldedLinear
from rankbench.bench import models
from rankbench.bench.conformance import training
from rankbench.bench.conformance.subject import Subject
from rankbench.bench.suite import Model
from rankbench.tasks import Head
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model
from tests.examples import example

pytestmark = pytest.mark.numerical

SCALORA = ["scalora", "scalora-scalar", "scalora-i", "scalora-nnls", "scalora-svd"]
SOONER = [("scalora", "llama", torch.float32), ("scalora-nnls", "bert", torch.bfloat16)]
STEPS = 6


def representable(total: Tensor) -> Tensor:
    """The float32 tensor that a pair can hold, by the rule for ties: in place of what lies in the middle
    between two bfloat16 of which the one nearer to zero is even, the float32 next to it on that side."""
    bits = total.view(torch.int32)
    return torch.where(bits & 0x1FFFF == 0x8000, bits - 1, bits).view(torch.float32)


@pytest.fixture(scope="module")
def all_kinds() -> Tensor:
    """Every lower half beside upper halves of both signs: zero, subnormal, odd and even, the largest."""
    upper = torch.tensor([0, 1, 2, 0x007F, 0x0080, 0x3F7F, 0x3F80, 0x3F81, 0x7F7E, 0x7F7F], dtype=torch.int32)
    upper = torch.cat([upper, upper - 2**15]) << 16
    return (upper[:, None] + torch.arange(2**16, dtype=torch.int32)).view(torch.float32)


def test_what_only_counts_memory_never_starts_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors say that they are on a GPU, and lie nowhere."""
    monkeypatch.setattr(pairs, "kernel_on", lambda device: pytest.fail("a kernel for tensors without values"))
    folded: list[Any] = []
    monkeypatch.setattr(pairs, "add_in_blocks", lambda products, scale: folded.extend(products))
    with FakeTensorMode():
        draw = partial(torch.empty, device="cuda")
        pair = draw(64, 32, dtype=torch.bfloat16), draw(64, 32, dtype=torch.int16)
        add_products([(*pair, draw(64, 4), draw(32, 4))], 1.0)
    assert folded[0][0] is pair[0]


def test_where_the_kernel_cannot_be_built_that_is_said_and_folds_go_the_slow_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add_product(*_: Any) -> None:
        raise CalledProcessError(1, ["gcc"])

    kernel = SimpleNamespace(add_product=add_product)
    monkeypatch.setattr(pairs, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "rankbench.adapters.pair_kernel", kernel)
    with pytest.warns(UserWarning, match="the slow way: Triton cannot build"):
        assert pairs.kernel_on.__wrapped__(torch.device("cpu")) is None
    kernel.add_product = lambda *_: None
    assert pairs.kernel_on.__wrapped__(torch.device("cpu")) is kernel.add_product
    monkeypatch.setattr(pairs, "find_spec", lambda name: None)
    assert pairs.kernel_on.__wrapped__(torch.device("cpu")) is None


def test_a_pair_is_its_float32_number_and_its_value_what_autocast_makes_of_it(all_kinds: Tensor) -> None:
    value, remainder = split(all_kinds)
    assert value.dtype == torch.bfloat16
    assert remainder.dtype == torch.int16
    again = joined(value, remainder)
    assert torch.equal(again.view(torch.int32), representable(all_kinds).view(torch.int32))
    assert torch.equal(again.bfloat16().view(torch.int16), value.view(torch.int16))
    assert torch.equal(value.view(torch.int16), all_kinds.bfloat16().view(torch.int16))
    moved = int((again.view(torch.int32) != all_kinds.view(torch.int32)).sum())
    assert moved == all_kinds.numel() / 2**17, "a tie that was rounded towards zero, of each even upper half"


def test_what_is_not_finite_stays_so() -> None:
    odd = torch.tensor([torch.nan, -torch.nan, torch.inf, -torch.inf])
    odd = torch.cat([odd, torch.tensor([0x7F800001, 0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)])
    again = joined(*split(odd))
    assert torch.equal(again.isnan(), odd.isnan())
    assert torch.equal(again[2:4], odd[2:4])


def test_a_value_that_was_widened_is_read_as_before() -> None:
    total = torch.randn(3, 4)
    value, remainder = split(total)
    wide = value.double()
    assert torch.equal(joined(wide, remainder), joined(value, remainder))
    assert torch.equal(wide, value.double())


def drawn(count: int, rows: int = 6, columns: int = 10, rank: int = 2) -> Iterator[tuple[Tensor, Tensor]]:
    generator = seeded(3)
    for _ in range(count):
        yield (
            torch.randn(rows, rank, generator=generator) * 1e-2,
            torch.randn(columns, rank, generator=generator) * 1e-2,
        )


def test_two_hundred_folds_drift_as_float32_does_and_bfloat16_loses_them() -> None:
    start = torch.randn(6, 10, generator=seeded()).bfloat16()
    exact, wide, narrow = start.double(), start.float(), start.clone()
    value, remainder = start.clone(), torch.zeros(6, 10, dtype=torch.int16)
    for left, right in drawn(200):
        exact += 0.5 * (left.double() @ right.double().t())
        wide.addmm_(left, right.t(), alpha=0.5)
        narrow += 0.5 * (left @ right.t())
        add_products([(value, remainder, left, right)], 0.5)
    moved = (exact - start).norm()
    drift, of_float32 = (joined(value, remainder) - exact).norm(), (wide - exact).norm()
    assert of_float32 < 1e-3 * moved
    assert drift <= 1.01 * of_float32
    assert (narrow - exact).norm() > 0.5 * moved
    assert torch.equal(value, joined(value, remainder).bfloat16())


class Largest(TorchDispatchMode):
    """Entries of the largest float32 tensor that is made, and the number of kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.kernels += not (func.is_view or "empty" in func.overloadpacket.__name__)
        if isinstance(made, Tensor) and made.dtype == torch.float32 and not func.is_view:
            self.entries = max(self.entries, made.numel())
        return made


@pytest.mark.parametrize("at_once", [1, 25, 30, 120, 10**6])
def test_a_fold_takes_a_few_rows_or_a_few_weights_at_a_time(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 weights of 7 by 10: from a row at a time to all of them."""
    totals = [torch.randn(7, 10) for _ in range(5)]
    products = [(*split(total), *product) for total, product in zip(totals, drawn(5, rows=7), strict=True)]
    monkeypatch.setattr(pairs, "AT_ONCE", at_once)
    with Largest() as seen:
        add_products(products, 2.0)
    assert seen.entries <= max(10, min(at_once, 5 * 70))
    for total, (value, remainder, left, right) in zip(totals, products, strict=True):
        expected = total.double() + 2.0 * left.double() @ right.double().t()
        torch.testing.assert_close(joined(value, remainder).double(), expected, rtol=2e-7, atol=1e-8)
        assert torch.equal(value, joined(value, remainder).bfloat16())


def test_kernels_of_a_fold_are_the_products_and_a_few_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernels(count: int) -> int:
        products = [(*split(torch.randn(6, 10)), *product) for product in drawn(count)]
        with Largest() as seen:
            add_products(products, 1.0)
        return seen.kernels

    assert kernels(9) - kernels(4) == 5
    assert kernels(4) <= 4 + 10
    assert kernels(1) <= 1 + 6


def test_what_a_process_holds_of_a_weight_may_be_nothing() -> None:
    value, remainder = torch.empty(0, 5, dtype=torch.bfloat16), torch.empty(0, 5, dtype=torch.int16)
    add_products([(value, remainder, torch.empty(0, 2), torch.ones(5, 2))], 1.0)


def adapted(name: str, model: nn.Module, architecture: str) -> Adapter:
    values: dict[str, Any] = {"interval": 2} if name == "scalora-i" else {}
    adapter = example(name, steps=STEPS, **values)
    adapter.attach(model, TARGETS[architecture], generator=seeded())
    return adapter


def folded_layers(adapter: Adapter) -> list[FoldedLinear]:
    return [layer for layer in adapter.layers.values() if isinstance(layer, FoldedLinear)]


def rounded(architecture: str, rest: torch.dtype) -> nn.Module:
    """The tiny model with target weights in bfloat16, and `rest` for all others."""
    model = tiny_model(architecture, dtype=rest)
    found = adapted("scalora", copy.deepcopy(model).float(), architecture)
    for name in found.layers:
        weight = model.get_submodule(name).weight
        weight.data = weight.data.bfloat16()
    return model


def stepped(adapter: Adapter, model: nn.Module, *, autocast: bool) -> Iterator[list[Tensor]]:
    """After each backward pass the loss and all gradients; the step follows."""
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = model(**tiny_batch(model, step % 2)).loss
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        yield [loss.detach(), *gradients]
        adapter.before_step(optimizer, step)
        optimizer.step()
        adapter.after_step(optimizer, step)


@pytest.mark.parametrize(
    ("name", "architecture", "rest"),
    [
        pytest.param(*case, marks=[] if case in SOONER else [pytest.mark.slow])
        for case in itertools.product(SCALORA, ["llama", "bert"], [torch.float32, torch.bfloat16])
    ],
)
def test_training_equals_autocast_over_the_float32_sums_bit_for_bit(
    name: str, architecture: str, rest: torch.dtype
) -> None:
    """Losses, gradients, weights: the other model has the weights in float32, cast in every pass."""
    model = rounded(architecture, rest)
    wide = copy.deepcopy(model)
    adapter = adapted(name, model, architecture)
    assert {layer.base.weight.dtype for layer in folded_layers(adapter)} == {torch.bfloat16}
    for layer in adapter.layers:
        weight = wide.get_submodule(layer).weight
        weight.data = weight.data.float()
    other = adapted(name, wide, architecture)
    moved = [layer.base.weight.detach().clone() for layer in folded_layers(other)]
    steps = zip(stepped(adapter, model, autocast=True), stepped(other, wide, autocast=True), strict=True)
    for number, (found, expected) in enumerate(steps):
        assert len(found) == len(expected) > 5
        assert all(torch.equal(*each) for each in zip(found, expected, strict=True)), f"step {number}"
        for layer in folded_layers(other):
            layer.base.weight.data = representable(layer.base.weight.data)
    for layer, twin, start in zip(folded_layers(adapter), folded_layers(other), moved, strict=True):
        total = representable(twin.base.weight.data)
        assert torch.equal(layer.frozen(), total)
        assert torch.equal(layer.base.weight, total.bfloat16())
        assert not torch.equal(total, start)


@pytest.mark.parametrize("architecture", ["llama", "bert", "gpt2"])
def test_without_autocast_training_equals_float32_sums_kept_elsewhere(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in bfloat16; the other model is given bfloat16(sum) after each fold."""
    model = tiny_model(architecture, dtype=torch.bfloat16)
    twin = copy.deepcopy(model)
    adapter, other = adapted("scalora", model, architecture), adapted("scalora", twin, architecture)
    sums = {layer: layer.base.weight.detach().float() for layer in folded_layers(other)}

    def kept_elsewhere(group: Any, lefts: Any) -> None:
        for layer, left in zip(group, lefts, strict=True):
            rows, columns = (layer.B, left) if architecture == "gpt2" else (left, layer.B)
            sums[layer].addmm_(rows, columns.t(), alpha=layer.scale)
            sums[layer] = representable(sums[layer])
            layer.base.weight.copy_(sums[layer])

    mine = [[tensor.clone() for tensor in step] for step in stepped(adapter, model, autocast=False)]
    monkeypatch.setattr("rankbench.adapters.scalora.folding._add_to_frozen", kept_elsewhere)
    for found, expected in zip(mine, stepped(other, twin, autocast=False), strict=True):
        assert all(torch.equal(*each) for each in zip(found, expected, strict=True))
    for layer, kept in zip(folded_layers(adapter), sums.values(), strict=True):
        assert torch.equal(layer.frozen(), kept)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("name", SCALORA)
def test_a_rescale_leaves_the_effective_weight(name: str, architecture: str) -> None:
    """It moves by what float32 rounds; in bfloat16 a fold would round away 2⁻⁹ of it."""
    model = tiny_model(architecture, dtype=torch.bfloat16)
    adapter = adapted(name, model, architecture)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        model(**tiny_batch(model, step)).loss.backward()
        before = {layer: adapter.weight(layer) for layer in adapter.layers}
        values = [layer.base.weight.clone() for layer in folded_layers(adapter)]
        adapter.before_step(optimizer, step)
        for layer, weight in before.items():
            assert float((adapter.weight(layer) - weight).norm() / weight.norm()) < 3e-7
        optimizer.step()
    pairs_now = [layer.base.weight for layer in folded_layers(adapter)]
    assert name == "scalora-i" or not all(map(torch.equal, values, pairs_now))


class Half(Subject):
    """On bfloat16 models."""

    def model(self, **how: Any) -> nn.Module:
        return super().model(**{"dtype": torch.bfloat16, **how})


@pytest.mark.parametrize("name", SCALORA)
def test_resumes_bit_by_bit(name: str) -> None:
    values: dict[str, Any] = {"interval": 3} if name == "scalora-i" else {}
    training.resumes_bit_by_bit(Half(lambda: example(name, steps=8, **values), "bert"))


def test_the_state_holds_pairs_which_float32_weights_take_as_sums() -> None:
    model = tiny_model("llama", dtype=torch.bfloat16)
    adapter = adapted("scalora", model, "llama")
    list(stepped(adapter, model, autocast=False))
    file = io.BytesIO()
    torch.save(adapter.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    again = adapted("scalora", tiny_model("llama", dtype=torch.bfloat16), "llama")
    again.load_state_dict(state)
    for layer, other in zip(folded_layers(adapter), folded_layers(again), strict=True):
        assert torch.equal(layer.frozen(), other.frozen())
        assert layer.remainder is not None
        assert layer.remainder.any()
    wide = adapted("scalora", tiny_model("llama", dtype=torch.bfloat16).float(), "llama")
    wide.load_state_dict(state)
    for layer, other in zip(folded_layers(adapter), folded_layers(wide), strict=True):
        assert torch.equal(layer.frozen(), other.base.weight)
    assert state["tensors"].keys() == adapter.state_dict()["tensors"].keys()
    short = {key: t[:, 2:] if key.endswith("remainder") else t for key, t in state["tensors"].items()}
    with pytest.raises(adapters.AdapterError, match=r"remainder is \(32, 62\), not \(32, 64\)"):
        wide.load_state_dict({**state, "tensors": short})
    with pytest.raises(adapters.AdapterError, match="remainder is in only one of them"):
        adapter.load_state_dict(wide.state_dict())


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_merge_in_float32_keeps_the_sum_and_one_in_bfloat16_rounds_it_once(architecture: str) -> None:
    model = tiny_model(architecture, dtype=torch.bfloat16)
    adapter = adapted("scalora", model, architecture)
    list(stepped(adapter, model, autocast=False))
    sums = {layer: adapter.folded(layer)["weight"] for layer in adapter.layers}
    for layer, total in zip(folded_layers(adapter), sums.values(), strict=True):
        delta = layer.delta().detach()
        assert total.dtype == torch.float32
        assert torch.equal(total, layer.frozen() + (delta.t() if architecture == "gpt2" else delta))
    narrow = copy.deepcopy(adapter)
    narrow.merge(narrow.model)
    adapter.merge(model, dtype=torch.float32)
    for layer, total in sums.items():
        assert torch.equal(model.get_parameter(f"{layer}.weight"), total)
        assert torch.equal(narrow.model.get_parameter(f"{layer}.weight"), total.bfloat16())
    assert not [name for name, _ in model.named_buffers() if name.endswith("remainder")]
    assert adapter.rounding == 0.0


def test_bytes_of_llama() -> None:
    """With the papers' targets, counted on shapes: pairs for what is adapted, 2 bytes for the rest."""
    model = models.empty_model(Model(name="meta-llama/Meta-Llama-3-8B"), Head("causal")).bfloat16()
    names = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
    with torch.device("meta"):
        adapter = example("scalora", steps=STEPS)
        adapter.attach(model, names, generator=None)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    held = sum(t.nbytes for name, t in tensors if not name.endswith((".A", ".B")))
    total, folded = 8.03e9, 4.56e9
    assert held == pytest.approx(2 * total + 2 * folded, rel=1e-3)
