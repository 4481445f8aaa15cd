"""LoRA²: sizes, penalty, importance, budget and pruning against direct computations."""

from __future__ import annotations

from typing import Any

import peft
import pytest
import torch
from peft.tuners.adalora import RankAllocator
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import AutoModelForSequenceClassification, DebertaV2Config

from rankbench import adapters
from rankbench.adapters.budget import Schedule
from rankbench.adapters.errors import AdapterError
from rankbench.adapters.layers import weight_of
from rankbench.adapters.lora2.adapter import Lora2
from rankbench.adapters.lora2.planes import TwoPlaneLinear
from tests.adapters.steps import optimizer_for, train
from tests.conftest import TARGETS, seeded, tiny_model

pytestmark = pytest.mark.numerical

SIX_MATRICES = r".*encoder\.layer\..*(query_proj|key_proj|value_proj|dense)"
FACTORS = ("U1", "V1", "e", "U2", "V2")


def attached(model: nn.Module, targets: Any, **values: Any) -> Lora2:
    adapter = adapters.create(
        "lora2", **{"rank": 4, "width": 3, "target_rank": 2, "total_steps": 40} | values
    )
    assert isinstance(adapter, Lora2)
    adapter.attach(model, targets, generator=seeded())
    return adapter


def planes(adapter: Lora2) -> list[TwoPlaneLinear]:
    return [layer for layer in adapter.layers.values() if isinstance(layer, TwoPlaneLinear)]


def randomise(adapter: Lora2, seed: int = 1) -> None:
    generator = seeded(seed)
    for layer in planes(adapter):
        for name in FACTORS:
            getattr(layer, name).data.normal_(std=0.5, generator=generator)


@pytest.mark.parametrize(("width", "millions"), [(1, 0.17), (2, 0.33), (8, 1.34)])
def test_parameter_counts_are_the_papers(width: int, millions: float) -> None:
    config = DebertaV2Config(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, vocab_size=128
    )
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    adapter = attached(model, SIX_MATRICES, rank=8, width=width)
    count = adapter.parameter_counts()["adapter"]
    assert len(adapter.layers) == 72
    sides = [sum(weight_of(layer.base).shape) for layer in planes(adapter)]
    assert count == sum(width * side + 2 * width * 8 + 8 for side in sides)
    assert round(count / 1e6, 2) == pytest.approx(millions, abs=0.011)
    if width == 1:
        adapter.orthogonality = 0.0
        outer = width * sum(sides)
        assert outer / count == pytest.approx(0.985, abs=0.005)


def test_the_increment_is_the_product_of_its_factors() -> None:
    model = tiny_model("gpt2", dtype=torch.float64)
    adapter = attached(model, ["c_attn"], rank=5, width=3, alpha=10)
    randomise(adapter)
    for layer in planes(adapter):
        explicit = 2.0 * layer.V2 @ layer.U2 @ torch.diag(layer.e) @ layer.V1 @ layer.U1
        torch.testing.assert_close(layer.delta(), explicit)
        x = torch.randn(2, 3, 32, dtype=torch.float64)
        torch.testing.assert_close(layer(x), layer.base(x) + x @ explicit.t())


def test_the_start_is_the_papers() -> None:
    layer = planes(attached(nn.Sequential(nn.Linear(600, 500)), ["0"], rank=8, width=8))[0]
    assert not layer.e.any()
    for name, shape in {"U1": (8, 600), "V1": (8, 8), "U2": (8, 8), "V2": (500, 8)}.items():
        factor = getattr(layer, name)
        assert factor.shape == shape
        assert float(factor.detach().std()) == pytest.approx(0.02, rel=0.3)


def from_identity(gram: Tensor) -> Tensor:
    return (gram - torch.eye(len(gram), dtype=gram.dtype)).norm() ** 2


def equation_5(layer: TwoPlaneLinear) -> dict[str, Tensor]:
    """The paper's regularisers as they are written, with the planes formed, the inner factors' Gram
    matrices on their thin side."""

    def inner(factor: Tensor) -> Tensor:
        return from_identity(factor @ factor.t() if len(factor) <= factor.shape[1] else factor.t() @ factor)

    p, q = layer.V2 @ layer.U2, layer.V1 @ layer.U1
    return {
        "uv": from_identity(layer.V2.t() @ layer.V2) + inner(layer.U2),
        "UV": inner(layer.V1) + from_identity(layer.U1 @ layer.U1.t()),
        "PQ": from_identity(p.t() @ p) + from_identity(q @ q.t()),
    }


@pytest.mark.parametrize("chosen", [["uv"], ["UV"], ["PQ"], ["uv", "UV"], ["uv", "UV", "PQ"]])
@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_the_penalty_and_its_gradient_are_equation_5(width: int, chosen: list[str]) -> None:
    model = tiny_model("bert", dtype=torch.float64)
    targets = ["query", "value", "intermediate.dense"]  # of two shapes
    adapter = attached(model, targets, width=width, orthogonality=0.3, regularisers=chosen)
    randomise(adapter)
    by_layer = [equation_5(layer) for layer in planes(adapter)]
    terms = {name: torch.stack([each[name] for each in by_layer]).mean() for name in by_layer[0]}
    assert adapter.diagnostics()["orthogonality"] == pytest.approx(
        {name: float(term.detach()) for name, term in terms.items()}, rel=1e-12
    )
    written = 0.3 * torch.stack([terms[name] for name in chosen]).sum()
    ours = torch.as_tensor(adapter.penalty())
    torch.testing.assert_close(ours, written, rtol=1e-12, atol=0)
    factors = [getattr(layer, name) for layer in planes(adapter) for name in ("U1", "V1", "U2", "V2")]
    expected = torch.autograd.grad(written, factors, materialize_grads=True)
    found = torch.autograd.grad(ours, factors, materialize_grads=True)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_the_penalty_of_orthonormal_planes_is_zero_whatever_lies_between_them() -> None:
    adapter = attached(tiny_model("bert", dtype=torch.float64), TARGETS["bert"], rank=4, width=4)
    randomise(adapter)
    for layer in planes(adapter):
        for name in ("U1", "V1", "U2", "V2"):
            nn.init.orthogonal_(getattr(layer, name).data)
    assert float(torch.as_tensor(adapter.penalty()).detach()) == pytest.approx(0, abs=1e-20)


def test_the_planes_themselves_become_orthonormal_in_training() -> None:
    model = tiny_model("bert")
    adapter = attached(model, TARGETS["bert"], rank=8, width=8, target_rank=4, total_steps=100)
    before = adapter.diagnostics()["orthogonality"]
    assert before["PQ"] == pytest.approx(16, rel=0.02)
    train(adapter, model, optimizer_for(model), range(75))
    after = adapter.diagnostics()["orthogonality"]
    assert sum(after.values()) < 0.1 * sum(before.values())
    assert after["PQ"] < 1


def test_a_narrow_plane_keeps_what_its_rank_cannot_reach() -> None:
    model = tiny_model("bert")
    adapter = attached(model, TARGETS["bert"], rank=8, width=2, target_rank=4, total_steps=100)
    train(adapter, model, optimizer_for(model), range(75))
    assert 12 <= adapter.diagnostics()["orthogonality"]["PQ"] < 12.5


@pytest.mark.parametrize("given", ["uv", [], ["uv", "pq"], ["uv", "uv"], [["uv"]], 3, None, {"uv": 1}])
def test_an_unknown_regulariser_is_named(given: Any) -> None:
    with pytest.raises(AdapterError, match=r"regularisers must be some of uv, UV, PQ, each once.*orthogon"):
        adapters.create("lora2", total_steps=100, regularisers=given)


def direct_importance(adapter: Lora2, model: nn.Module, optimizer: AdamW, steps: int) -> list[Tensor]:
    """AdaLoRA's scores by the book, one parameter at a time."""
    b1, b2 = adapter.beta1, adapter.beta2
    smoothed: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}
    for step in range(steps):
        train(adapter, model, optimizer, range(step, step + 1))
        for i, layer in enumerate(planes(adapter)):
            for name in ("e", "V1", "U2"):
                p = getattr(layer, name)
                sensitivity = (p * p.grad).abs().detach()
                zero = torch.zeros_like(sensitivity)
                mean, spread = smoothed.get((i, name), (zero, zero))
                mean = b1 * mean + (1 - b1) * sensitivity
                spread = b2 * spread + (1 - b2) * (sensitivity - mean).abs()
                smoothed[i, name] = mean, spread
    score = {key: mean * spread for key, (mean, spread) in smoothed.items()}
    return [
        score[i, "e"] + score[i, "V1"].mean(dim=1) + score[i, "U2"].mean(dim=0)
        for i in range(len(adapter.layers))
    ]


def test_importance_is_adaloras_over_the_small_factors() -> None:
    model = tiny_model("bert", dtype=torch.float64)
    adapter = attached(model, TARGETS["bert"], init_warmup=30, final_warmup=1)
    randomise(adapter)
    direct = direct_importance(adapter, model, optimizer_for(model), steps=6)
    torch.testing.assert_close(adapter.importance(), torch.stack(direct), rtol=1e-10, atol=0)


def test_the_budget_at_its_corners() -> None:
    schedule = Schedule(initial=80, target=20, start=10, end=70, interval=5)
    assert [schedule.at(t) for t in (0, 10)] == [80, 80]
    assert schedule.at(11) < 80
    assert schedule.at(40) == 20 + int(60 * 0.5**3)
    assert schedule.at(69) == 20
    assert [schedule.at(t) for t in (70, 71, 1000)] == [20, 20, 20]
    assert [t for t in range(30) if schedule.prunes(t)] == [15, 20, 25]
    assert all(schedule.prunes(t) for t in range(70, 90))


def test_the_budget_is_pefts() -> None:
    model = tiny_model("bert")
    config = peft.AdaLoraConfig(
        init_r=6, target_r=2, tinit=7, tfinal=11, deltaT=4, total_step=50, target_modules=["query"]
    )
    peft.inject_adapter_in_model(config, model)
    allocator = RankAllocator(model, config, "default")
    adapter = adapters.create(
        "lora2", rank=6, target_rank=2, total_steps=50, init_warmup=7, final_warmup=11, mask_interval=4
    )
    assert isinstance(adapter, Lora2)
    schedule = adapter.schedule(layers=2)
    for step in range(1, 51):
        assert schedule.at(step) == allocator.budget_schedule(step)[0]
        if step != 50 - 11:
            assert schedule.prunes(step) == allocator.budget_schedule(step)[1]


def test_warmups_may_be_fractions() -> None:
    for start, final in ((0.25, 0.5), (10, 20)):
        adapter = adapters.create("lora2", total_steps=40, init_warmup=start, final_warmup=final)
        assert isinstance(adapter, Lora2)
        assert (adapter.schedule(1).start, adapter.schedule(1).end) == (10, 20)


def test_pruning_keeps_the_most_important_over_all_layers() -> None:
    model = tiny_model("bert", dtype=torch.float64)
    adapter = attached(model, TARGETS["bert"], init_warmup=2, final_warmup=10, mask_interval=6)
    optimizer = optimizer_for(model)
    schedule, count = adapter.schedule(len(adapter.layers)), len(adapter.layers)
    returned = False
    zeroed: set[tuple[int, int]] = set()
    for step in range(40):
        train(adapter, model, optimizer, range(step, step + 1))
        e = torch.stack([layer.e.detach() for layer in planes(adapter)])
        if schedule.prunes(step + 1):
            assert int(e.count_nonzero()) == schedule.at(step + 1)
            order = adapter.importance().flatten().argsort(descending=True)
            assert set(order[: schedule.at(step + 1)].tolist()) == set(
                e.flatten().nonzero().flatten().tolist()
            )
            if step + 1 < schedule.end:
                zeroed |= {(int(i), int(j)) for i, j in (e == 0).nonzero()}
        else:
            returned |= any(e[i, j] != 0 for i, j in zeroed)
    left = adapter.diagnostics()["rank"]
    assert returned
    assert sum(left.values()) == 2 * count
    assert len(set(left.values())) > 1
    assert list(left) == list(adapter.layers)


def test_the_pattern_is_fixed_once_the_target_is_reached() -> None:
    model = tiny_model("bert")
    adapter = attached(model, TARGETS["bert"], final_warmup=20)
    optimizer = optimizer_for(model)
    train(adapter, model, optimizer, range(20))
    pattern = torch.stack([layer.e != 0 for layer in planes(adapter)])
    for step in range(20, 40):
        train(adapter, model, optimizer, range(step, step + 1))
        assert torch.equal(torch.stack([layer.e != 0 for layer in planes(adapter)]), pattern)


def test_a_step_waits_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("bert")
    adapter = attached(model, TARGETS["bert"], init_warmup=0, final_warmup=10, mask_interval=1)
    optimizer = optimizer_for(model)
    train(adapter, model, optimizer, range(2))

    def synchronised(*args: Any) -> None:
        raise AssertionError("a host synchronisation inside the step")

    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
        monkeypatch.setattr(Tensor, name, synchronised)
    adapter.penalty()
    adapter.before_step(optimizer, 2)
    adapter.after_step(optimizer, 2)
