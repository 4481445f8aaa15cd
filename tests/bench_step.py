"""Times of the hot functions, for `nox -s bench`; pytest does not collect this file by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rankbench import adapters
from rankbench.bench.run.step import make_accelerator, make_optimizer, optimizer_step
from rankbench.bench.suite import Training
from rankbench.tasks import Batch
from tests.conftest import TARGETS, tiny_batch, tiny_model

ROWS, WIDTH, RANK, LAYERS = 1024, 384, 4, 12
ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"rank": RANK},
    "lora2": {"rank": 2 * RANK, "width": 8},
    "scalora": {"rank": RANK},
    "peft": {"config": {"peft_type": "LORA", "r": RANK}},
    "full": {},
}


def attached(model: torch.nn.Module, name: str, targets: Any) -> adapters.Adapter:
    run = {"total_steps": 1000} if "total_steps" in adapters.hyperparameters(name) else {}
    adapter = adapters.create(name, **run, **ADAPTERS[name])
    adapter.attach(model, targets, generator=torch.Generator().manual_seed(0))
    return adapter


@pytest.mark.parametrize("name", [None, *ADAPTERS])
def test_layer_forward_and_backward(benchmark, name):
    """One layer of MiniLM's width, 32 × 32 tokens; `None` is the frozen layer."""
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH)).requires_grad_(False)
    if name is not None:
        attached(model, name, ["0"])
    x = torch.randn(ROWS, WIDTH, requires_grad=True)
    gradient = torch.randn(ROWS, WIDTH)
    benchmark(lambda: model(x).backward(gradient))


@pytest.mark.parametrize("name", ["scalora-scalar", "scalora"])
def test_rescale(benchmark, name):
    """Every layer of a stack, with gradients and moments held."""
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    # Smoothness 1 / rate keeps repeated rescaling of the same gradients bounded.
    adapter = adapters.create(name, rank=RANK, learning_rate=1e-3, smoothness=1e3)
    adapter.attach(model, r"\d+", generator=torch.Generator().manual_seed(0))
    optimizer = make_optimizer(adapter, Training(steps=1, batch_size=1, learning_rate=1e-3))
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(ROWS, WIDTH)).square().mean().backward()
        optimizer.step()
    benchmark(adapter.before_step, optimizer, 0)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_optimizer_step(benchmark, name):
    """The timed part of the shared loop on a tiny encoder: what is not arithmetic shows here."""
    accelerator = make_accelerator()
    model, inputs = tiny_model("bert").train(), tiny_batch(tiny_model("bert"))
    adapter = attached(model, name, TARGETS["bert"])
    training = Training(steps=1, batch_size=8, learning_rate=1e-3)
    wrapped, optimizer = accelerator.prepare(model, make_optimizer(adapter, training))
    batches = [Batch(inputs, 8)]

    def step() -> None:
        optimizer_step(
            accelerator, wrapped, adapter, optimizer, lambda model, inputs: model(**inputs).loss * 8,
            batches, step=0, weight=8.0, clip=1.0,
        )  # fmt: skip

    benchmark(step)
