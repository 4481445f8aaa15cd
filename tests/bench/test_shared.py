"""A borrowed model is what a fresh load gives, whatever was done with it before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from rankbench.adapters import Adapter
from rankbench.bench import models
from rankbench.bench.conformance.models import TARGETS, optimizer_for, outputs, seeded, train
from rankbench.bench.models import shared
from rankbench.bench.suite import Model
from rankbench.tasks import Head
from tests.examples import example

CLASSES = Head("sequence", 3)
STEPS = 4


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    shared.forget()
    yield
    shared.forget()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The device of every load that a borrower had to wait for."""
    seen: list[str] = []
    load = shared.load_headed

    def counted(*given: Any) -> PreTrainedModel:
        seen.append(given[0].name)
        return load(*given)

    monkeypatch.setattr(shared, "load_headed", counted)
    return seen


@pytest.fixture
def encoder(tmp_path: Path) -> Model:
    """A checkpoint without a pooler and without a head, of the tiny BERT."""
    return _saved(tmp_path / "encoder", "bert", AutoModelForMaskedLM)


def _saved(folder: Path, kind: str, auto: Any) -> Model:
    small = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto.from_config(
            AutoConfig.for_model(kind, **small, num_attention_heads=4, pad_token_id=0)
        ).save_pretrained(folder)
    return Model(name=str(folder))


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def trained(adapter: Adapter, model: nn.Module, *, merge: bool = True) -> Adapter:
    adapter.attach(model, TARGETS["bert"], heads=["bert.pooler", "classifier"], generator=seeded())
    model.eval()
    train(adapter, model, optimizer_for(model), range(STEPS))
    if merge:
        adapter.merge(model)
    return adapter


@pytest.mark.parametrize("name", ["lora", "scalora", "full", "pissa"])
def test_it_is_what_a_fresh_load_gives(name: str, encoder: Model) -> None:
    for seed in (0, 1, 0):
        model = shared.borrow(encoder, CLASSES, seed, "cpu")
        fresh = models.load_headed(encoder, CLASSES, seed)
        assert same(model, fresh)
        assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in fresh.parameters()]
        assert torch.equal(outputs(model.eval()), outputs(fresh.eval()))
        shared.give_back(trained(example(name, steps=STEPS), model))
