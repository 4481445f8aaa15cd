"""ScaLoRA's rescale inside training: the function stays, what the optimizer holds follows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from rankbench import adapters
from rankbench.adapters import AdapterError
from rankbench.adapters.lora import LowRankLinear
from rankbench.adapters.scalora.adapter import ScaLora, Solution
from rankbench.adapters.scalora.scaling import column_system
from tests.adapters.steps import optimizer_for, train
from tests.conftest import TARGETS, seeded, tiny_batch, tiny_model

pytestmark = pytest.mark.numerical

BETAS = (0.9, 0.999)
"""AdamW's own."""
VARIANTS = ["scalora-scalar", "scalora", "scalora-nnls"]


def attached(
    name: str = "scalora", architecture: str = "bert", **values: Any
) -> tuple[ScaLora, nn.Module, AdamW]:
    model = tiny_model(architecture, dtype=torch.float64)
    values = {"rank": 3, "learning_rate": 1e-2, "smoothness": 10.0} | values
    adapter = adapters.create(name, **values)
    assert isinstance(adapter, ScaLora)
    adapter.attach(model, TARGETS[architecture], generator=seeded())
    return adapter, model, optimizer_for(model)


def layers(adapter: ScaLora) -> dict[str, LowRankLinear]:
    return {n: layer for n, layer in adapter.layers.items() if isinstance(layer, LowRankLinear)}


def backward(model: nn.Module, seed: int) -> None:
    model.zero_grad()
    model(**tiny_batch(model, seed)).loss.backward()


def gradients(adapter: ScaLora) -> dict[str, Tensor]:
    found = {}
    for name, layer in layers(adapter).items():
        assert layer.A.grad is not None
        assert layer.B.grad is not None
        found[f"{name}.A"], found[f"{name}.B"] = layer.A.grad.clone(), layer.B.grad.clone()
    return found


def assert_gradients_are_those_of_the_factors(adapter: ScaLora, model: nn.Module) -> None:
    carried = gradients(adapter)
    backward(model, 3)
    for key, recomputed in gradients(adapter).items():
        torch.testing.assert_close(carried[key], recomputed, rtol=1e-9, atol=1e-15)


def scales_of(adapter: ScaLora, a: Tensor, b: Tensor, p: Tensor, q: Tensor) -> Solution:
    system = column_system(a, b, p, q, adapter.scale)
    return adapter.scales(*system, torch.finfo(a.dtype).eps)


def column_ratio(after: Tensor, before: Tensor) -> Tensor:
    """The scale of each column, 1 for a zero column."""
    norms = before.norm(dim=0)
    return torch.where(norms > 0, after.norm(dim=0) / norms, 1.0)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_rescale_leaves_the_function(name: str, architecture: str) -> None:
    adapter, model, optimizer = attached(name, architecture)
    train(adapter, model, optimizer, range(3))
    batch = tiny_batch(model)
    with torch.no_grad():
        before = model(**batch).logits
        factors = {n: (layer.A.clone(), layer.B.clone()) for n, layer in layers(adapter).items()}
        bases = {n: layer.base.weight.clone() for n, layer in layers(adapter).items()}
    backward(model, 3)
    adapter.before_step(optimizer, 3)
    with torch.no_grad():
        after = model(**batch).logits
    assert float((after - before).norm() / before.norm()) <= 1e-12
    for n, layer in layers(adapter).items():
        assert not torch.allclose(layer.A, factors[n][0], rtol=1e-3)
        assert not torch.allclose(layer.B, factors[n][1], rtol=1e-3)
        assert not torch.equal(layer.base.weight, bases[n])


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_after_a_rescale_are_those_of_the_rescaled_factors(name: str) -> None:
    adapter, model, optimizer = attached(name)
    train(adapter, model, optimizer, range(3))
    backward(model, 3)
    adapter.before_step(optimizer, 3)
    assert_gradients_are_those_of_the_factors(adapter, model)


@pytest.mark.parametrize("name", VARIANTS)
def test_moments_after_a_rescale_are_those_of_rescaled_history(name: str) -> None:
    """Replays every gradient as if the factors had always had today's scales."""
    adapter, model, optimizer = attached(name)
    history: dict[str, list[Tensor]] = {}
    for step in range(5):
        backward(model, step)
        old = {
            n: (layer.A.detach().clone(), layer.B.detach().clone()) for n, layer in layers(adapter).items()
        }
        raw = gradients(adapter)
        adapter.before_step(optimizer, step)
        for n, layer in layers(adapter).items():
            alpha, beta = column_ratio(layer.A.detach(), old[n][0]), column_ratio(layer.B.detach(), old[n][1])
            for key, other in ((f"{n}.A", beta), (f"{n}.B", alpha)):
                history[key] = [g * other for g in [*history.get(key, []), raw[key]]]
        optimizer.step()
    for n, layer in layers(adapter).items():
        for key, factor in ((f"{n}.A", layer.A), (f"{n}.B", layer.B)):
            first, second = torch.zeros_like(factor), torch.zeros_like(factor)
            for g in history[key]:
                first = BETAS[0] * first + (1 - BETAS[0]) * g
                second = BETAS[1] * second + (1 - BETAS[1]) * g**2
            state = optimizer.state[factor]
            torch.testing.assert_close(state["exp_avg"], first, rtol=1e-8, atol=1e-16)
            torch.testing.assert_close(state["exp_avg_sq"], second, rtol=1e-8, atol=1e-20)


def test_moments_stay_where_they_are_not_to_be_carried() -> None:
    adapter, model, optimizer = attached("scalora")
    adapter.carry_moments = False
    train(adapter, model, optimizer, range(3))
    backward(model, 3)
    held = {p: copy.deepcopy(state) for p, state in optimizer.state.items()}
    before = {n: layer.B.detach().clone() for n, layer in layers(adapter).items()}
    adapter.before_step(optimizer, 3)
    for n, layer in layers(adapter).items():
        assert not torch.allclose(layer.B, before[n], rtol=1e-3)
        for factor in (layer.A, layer.B):
            assert torch.equal(optimizer.state[factor]["exp_avg"], held[factor]["exp_avg"])
            assert torch.equal(optimizer.state[factor]["exp_avg_sq"], held[factor]["exp_avg_sq"])
    assert_gradients_are_those_of_the_factors(adapter, model)


@pytest.mark.parametrize("name", ["scalora", "scalora-svd"])
@pytest.mark.parametrize(
    ("other", "settings", "told"),
    [
        (AdamW, {"amsgrad": True}, "AdamW holds step, exp_avg, exp_avg_sq, max_exp_avg_sq of a factor"),
        (SGD, {"momentum": 0.9}, "SGD holds momentum_buffer of a factor, and a rescale carries the moments"),
    ],
)
def test_what_another_optimizer_holds_would_not_follow(name, other, settings, told) -> None:
    model = tiny_model("bert")
    adapter = adapters.create(name, rank=2)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    optimizer = other([p for p in model.parameters() if p.requires_grad], lr=1e-3, **settings)
    backward(model, 0)
    adapter.before_step(optimizer, 0)
    optimizer.step()
    backward(model, 1)
    with pytest.raises(AdapterError, match=told):
        adapter.before_step(optimizer, 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_second_rescale_on_the_same_gradients_changes_nothing(name: str) -> None:
    adapter, model, optimizer = attached(name)
    train(adapter, model, optimizer, range(2))
    backward(model, 2)
    adapter.before_step(optimizer, 2)
    state = adapter.state_dict()["tensors"]
    adapter.before_step(optimizer, 2)
    for key, tensor in adapter.state_dict()["tensors"].items():
        torch.testing.assert_close(tensor, state[key], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_first_rescale_has_only_one_direction(name: str) -> None:
    """A is zero: the frozen weight stays, B takes its own optimum."""
    adapter, model, optimizer = attached(name)
    start = {n: (layer.base.weight.clone(), layer.B.detach().clone()) for n, layer in layers(adapter).items()}
    backward(model, 0)
    adapter.before_step(optimizer, 0)
    for n, layer in layers(adapter).items():
        assert torch.equal(layer.base.weight, start[n][0])
        assert not layer.A.any()
        assert layer.B.isfinite().all()
        assert not torch.allclose(layer.B, start[n][1])


def test_a_clipped_scale_silences_its_factor_without_harm() -> None:
    """α = 0: A vanishes into the frozen weight, and B's gradient with it (or the reverse)."""
    model = nn.Sequential(nn.Linear(3, 3)).double()
    adapter = adapters.create("scalora-scalar", rank=2)
    adapter.attach(model, ["0"], generator=seeded())
    layer = adapter.layers["0"]
    assert isinstance(adapter, ScaLora)
    assert isinstance(layer, LowRankLinear)
    optimizer = AdamW([layer.A, layer.B])
    clipped = 0
    for seed in range(300):
        generator = seeded(seed)
        a, b, g = (torch.randn(3, n, dtype=torch.float64, generator=generator) for n in (2, 2, 3))
        p, q = adapter.scale * g @ b, adapter.scale * g.t() @ a
        scales = scales_of(adapter, a[None], b[None], p[None], q[None])[:2]
        if all(scale.all() for scale in scales):
            continue
        clipped += 1
        layer.A.data, layer.B.data, layer.A.grad, layer.B.grad = a.clone(), b.clone(), p, q
        before = adapter.weight("0")
        adapter.before_step(optimizer, 0)
        torch.testing.assert_close(adapter.weight("0"), before, rtol=1e-12, atol=1e-12)
        silent, other = (layer.A, layer.B) if not scales[0].any() else (layer.B, layer.A)
        assert not silent.any()
        assert other.grad is not None
        assert not other.grad.any()
        assert other.isfinite().all()
    assert clipped >= 5


def test_the_fallback_is_the_scalar_rule() -> None:
    """Layers whose column system has a negative entry get one scale a factor, the others do not."""
    adapter, *_ = attached("scalora", rank=3)
    scalar, *_ = attached("scalora-scalar", rank=3)
    generator = seeded()
    a, b, g = (torch.randn(40, 3, n, dtype=torch.float64, generator=generator) for n in (3, 3, 3))
    p, q = adapter.scale * g @ b, adapter.scale * g.mT @ a
    alpha, beta, flags = scales_of(adapter, a, b, p, q)
    nonnegative = flags["nonnegative"]
    alpha_1, beta_1, _ = scales_of(scalar, a, b, p, q)
    assert nonnegative.any()
    assert not nonnegative.all()
    torch.testing.assert_close(alpha[~nonnegative], alpha_1[~nonnegative])
    torch.testing.assert_close(beta[~nonnegative], beta_1[~nonnegative])
    assert (alpha[nonnegative].std(dim=2) > 0).all()


def test_nnls_is_the_column_rule_where_that_is_non_negative_and_better_elsewhere() -> None:
    adapter, *_ = attached("scalora-nnls", rank=3)
    column, *_ = attached("scalora", rank=3)
    generator = seeded()
    a, b, g = (torch.randn(40, 4, n, dtype=torch.float64, generator=generator) for n in (3, 3, 4))
    p, q = adapter.scale * g @ b, adapter.scale * g.mT @ a

    def left_over(alpha: Tensor, beta: Tensor) -> Tensor:
        moved = g @ (b * beta) @ (b * beta).mT + (a * alpha) @ (a * alpha).mT @ g
        rate = adapter.learning_rate * adapter.scale**2
        return (g / float(adapter.smoothness) - rate * moved).square().sum(dim=(1, 2))

    exact, flags = scales_of(adapter, a, b, p, q)[:2], scales_of(adapter, a, b, p, q)[2]
    ruled, nonnegative = scales_of(column, a, b, p, q)[:2], scales_of(column, a, b, p, q)[2]["nonnegative"]
    assert flags["solved"].all()
    assert torch.equal(flags["nonnegative"], nonnegative)
    assert nonnegative.any()
    for mine, theirs in zip(exact, ruled, strict=True):
        assert torch.equal(mine[nonnegative], theirs[nonnegative])
    assert (left_over(*exact)[~nonnegative] < left_over(*ruled)[~nonnegative]).all()


def test_nnls_never_extinguishes_a_column() -> None:
    """Parallel columns are of no use to the optimum, which gives them length zero in both factors."""
    adapter, model, optimizer = attached("scalora-nnls")
    train(adapter, model, optimizer, range(2))
    for layer in layers(adapter).values():
        with torch.no_grad():
            layer.A.add_(100 * layer.A[:, :1])
            layer.B.add_(100 * layer.B[:, :1])
    backward(model, 2)
    adapter.before_step(optimizer, 2)
    least = [
        torch.minimum(layer.A.norm(dim=0), layer.B.norm(dim=0)).min() for layer in layers(adapter).values()
    ]
    assert min(least) == 0
    assert all((layer.A.norm(dim=0) + layer.B.norm(dim=0)).all() for layer in layers(adapter).values())
    optimizer.step()
    backward(model, 3)
    assert all(found.any(dim=0).all() for found in gradients(adapter).values())


def test_scales_fall_with_smoothness_and_learning_rate() -> None:
    generator = seeded(1)
    a, b, g = (torch.randn(1, 5, n, dtype=torch.float64, generator=generator) for n in (2, 2, 5))

    def alpha(**values: float) -> Tensor:
        adapter, *_ = attached("scalora-scalar", rank=2, **values)
        return scales_of(adapter, a, b, adapter.scale * g @ b, adapter.scale * g.mT @ a)[0]

    torch.testing.assert_close(alpha(smoothness=40.0), alpha(smoothness=10.0) / 2)
    torch.testing.assert_close(alpha(learning_rate=4e-2), alpha(learning_rate=1e-2) / 2)


def test_the_interval_is_kept_and_the_share_is_reported() -> None:
    adapter, model, optimizer = attached("scalora-i", interval=3)
    train(adapter, model, optimizer, range(7))
    share = adapter.diagnostics()["nonnegative_share"]
    assert share["step"] == [0, 3, 6]
    assert share["share"][0] == 1.0
    assert all(0 <= value <= 1 for value in share["share"])


def test_nnls_reports_what_it_solved() -> None:
    adapter, model, optimizer = attached("scalora-nnls")
    train(adapter, model, optimizer, range(4))
    found = adapter.diagnostics()
    assert found.keys() == {"nonnegative_share", "solved_share"}
    assert found["solved_share"] == {"step": [0, 1, 2, 3], "share": [1.0] * 4}


def test_a_layer_without_a_gradient_is_left_alone() -> None:
    adapter, model, optimizer = attached()
    train(adapter, model, optimizer, range(2))
    backward(model, 2)
    idle = next(iter(layers(adapter).values()))
    idle.A.grad = idle.B.grad = None
    before = idle.A.detach().clone(), idle.B.detach().clone(), idle.base.weight.clone()
    adapter.before_step(optimizer, 2)
    for now, then in zip((idle.A, idle.B, idle.base.weight), before, strict=True):
        assert torch.equal(now, then)


def test_a_factor_new_to_the_optimizer_is_rescaled_beside_the_others() -> None:
    adapter, model, optimizer = attached()
    train(adapter, model, optimizer, range(2))
    backward(model, 2)
    late = next(iter(layers(adapter).values()))
    del optimizer.state[late.A]
    adapter.before_step(optimizer, 2)
    optimizer.step()


def test_weights_that_are_no_half_of_a_float32_number_are_refused() -> None:
    model = tiny_model("bert", dtype=torch.float16)
    with pytest.raises(adapters.AdapterError, match=r"scalora on .*float16.*bfloat16 or float32"):
        adapters.create("scalora").attach(model, TARGETS["bert"])
    assert all(parameter.dtype == torch.float16 for parameter in model.parameters())


@pytest.mark.parametrize("name", ["scalora", "scalora-svd"])
@pytest.mark.parametrize(
    ("first", "then"),
    [(torch.float32, torch.bfloat16), (torch.float32, torch.float16), (torch.bfloat16, torch.float32)],
)
def test_a_model_that_was_converted_after_it_was_adapted_is_refused(name, first, then) -> None:
    """Its weights would round folds away, and their pairs are made when it is adapted."""
    model = tiny_model("bert", dtype=first)
    adapter = adapters.create(name, rank=2)
    adapter.attach(model, TARGETS["bert"], generator=seeded())
    model.to(then)
    with pytest.raises(AdapterError, match=f"converted to {then} after it was adapted, .* before `attach`"):
        train(adapter, model, optimizer_for(model), range(1))


@pytest.mark.parametrize(("name", "grows"), [("lora", False), ("rslora", False), ("scalora", True)])
def test_accumulated_rank(name: str, grows: bool) -> None:
    rank = 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(24, 20), nn.Tanh()).double()
        x, y = torch.randn(64, 24, dtype=torch.float64), torch.rand(64, 20, dtype=torch.float64)
    start = model[0].weight.detach().clone()
    adapter = adapters.create(name, rank=rank)
    adapter.attach(model, ["0"], generator=seeded())
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for step in range(40):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        adapter.before_step(optimizer, step)
        optimizer.step()
    moved = adapter.weight("0") - start
    accumulated = int(torch.linalg.matrix_rank(moved, rtol=1e-6))
    assert accumulated > 2 * rank if grows else accumulated <= rank
