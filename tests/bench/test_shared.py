"""A borrowed model is what a fresh load gives, whatever was done with it before."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from rankbench import adapters
from rankbench.adapters import Adapter
from rankbench.bench import models
from rankbench.bench.models import shared
from rankbench.bench.suite import Model
from rankbench.tasks import Head
from tests.adapters.steps import optimizer_for, outputs, train
from tests.conftest import TARGETS, seeded
from tests.examples import example

CLASSES, CAUSAL = Head("sequence", 3), Head("causal")
STEPS = 3
SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    shared.forget()
    yield
    shared.forget()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of every load that a borrower had to wait for, the model's name."""
    seen: list[str] = []
    load = shared.load

    def counted(model: Model, *given: Any) -> Any:
        seen.append(model.name)
        return load(model, *given)

    monkeypatch.setattr(shared, "load", counted)
    return seen


@pytest.fixture
def encoder(tmp_path: Path) -> Model:
    """A checkpoint of the tiny BERT without pooler and head, in several files."""
    return saved(tmp_path / "encoder", "bert", AutoModelForMaskedLM, shards="40KB")


def saved(folder: Path, kind: str, auto: Any, *, shards: str = "1GB", **changes: Any) -> Model:
    config = AutoConfig.for_model(kind, **SMALL, num_attention_heads=4, pad_token_id=0, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        auto.from_config(config).save_pretrained(folder, max_shard_size=shards)
    return Model(name=str(folder))


def numbers(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def same(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = numbers(one), numbers(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def used(model: nn.Module, name: str, kind: str = "bert") -> Adapter:
    """An adapter that was trained on the model and merged into it."""
    adapter = example(name, steps=STEPS)
    adapter.attach(model, TARGETS[kind], generator=seeded())
    train(adapter, model, optimizer_for(model), range(STEPS))
    adapter.merge(model)
    return adapter


@pytest.mark.parametrize("name", ["lora", "scalora", "full", "pissa", "dora"])
def test_it_is_what_a_fresh_load_gives(name: str, encoder: Model, loads: list[str]) -> None:
    """Whatever was trained on it, and merged into it, and for whatever seed."""
    for seed in (0, 1, 0):
        model, fresh = (
            shared.borrow(encoder, CLASSES, seed, "cpu"),
            models.load_headed(encoder, CLASSES, seed),
        )
        assert same(model, fresh)
        assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in fresh.parameters()]
        assert torch.equal(outputs(model), outputs(fresh))
        shared.give_back(used(model, name))
    assert loads == [encoder.name]


def test_only_what_has_moved_is_read_again(encoder: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[set[str]] = []
    again = shared.read_again
    monkeypatch.setattr(
        shared, "read_again", lambda model, names, where: read.append({*names}) or again(model, names, where)
    )
    adapter = used(shared.borrow(encoder, CLASSES, 0, "cpu"), "lora")
    merged = {*adapter.merged}
    shared.give_back(adapter)
    shared.give_back(shared.borrow(encoder, CLASSES, 1, "cpu"))
    shared.borrow(encoder, CLASSES, 2, "cpu")
    assert read == [merged, set()], "the fresh head is drawn, and what nothing moved stays"


def test_a_borrower_has_modules_and_a_configuration_of_its_own(encoder: Model) -> None:
    model = shared.borrow(encoder, CLASSES, 0, "cpu")
    kept = shared._shared.loaded.model if shared._shared else None
    model.activation_checkpointing_enable()
    model.bert.encoder.layer[0].register_forward_hook(lambda *_: 1 / 0)
    model.bert.encoder.layer = model.bert.encoder.layer[:1]
    model.config.pad_token_id = 7
    model.double()
    shared.give_back(model)
    again, fresh = shared.borrow(encoder, CLASSES, 0, "cpu"), models.load_headed(encoder, CLASSES, 0)
    assert shared._shared is not None
    assert shared._shared.loaded.model is kept
    assert same(again, fresh)
    assert torch.equal(outputs(again), outputs(fresh))
    assert again.config.pad_token_id == 0
    assert not again.is_activation_checkpointing


def test_a_borrower_that_failed_leaves_nothing_behind(encoder: Model, loads: list[str]) -> None:
    model = shared.borrow(encoder, CLASSES, 0, "cpu")
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.add_(1)
    assert same(shared.borrow(encoder, CLASSES, 0, "cpu"), models.load_headed(encoder, CLASSES, 0))
    assert loads == [encoder.name] * 2


def test_what_is_not_lent_is_left_alone(encoder: Model) -> None:
    model = models.load_headed(encoder, CLASSES, 0)
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, TARGETS["bert"])
    shared.give_back(adapter)
    lent = shared.borrow(encoder, CLASSES, 0, "cpu")
    shared.give_back(adapter)
    assert adapter.layers
    shared.give_back(lent)
    shared.give_back(lent)


def test_one_model_is_kept(encoder: Model, tmp_path: Path, loads: list[str]) -> None:
    decoder = saved(tmp_path / "decoder", "llama", AutoModelForCausalLM)
    for model, head in (
        (encoder, CLASSES),
        (decoder, CAUSAL),
        (encoder, CLASSES),
        (encoder, Head("sequence", 2)),
    ):
        shared.give_back(shared.borrow(model, head, 0, "cpu"))
        assert shared._shared is not None
        assert shared._shared.key[0] == model
    assert loads == [encoder.name, decoder.name, encoder.name, encoder.name]


def test_what_is_read_again_takes_no_other_memory(encoder: Model) -> None:
    """A file is mapped as a whole, and what one tensor of it holds are all that were written into it."""
    places = []
    for _ in range(2):
        model = shared.borrow(encoder, CLASSES, 0, "cpu")
        places.append({name: p.data_ptr() for name, p in model.bert.encoder.named_parameters()})
        shared.give_back(used(model, "full"))
    assert places[0] == places[1]


def test_room_is_made_of_all_that_another_model_s_borrower_held(encoder: Model) -> None:
    model = shared.borrow(encoder, CLASSES, 0, "cpu")
    weights = [weakref.ref(parameter) for parameter in model.parameters()]
    shared.give_back(used(model, "lora"))
    del model
    shared.make_room(encoder, CLASSES)
    assert shared._shared is not None
    shared.make_room(encoder, CAUSAL)
    assert shared._shared is None
    assert not any(weight() is not None for weight in weights)


def test_a_folder_that_has_changed_is_loaded_anew(tmp_path: Path) -> None:
    model = saved(tmp_path / "mine", "llama", AutoModelForCausalLM)
    shared.give_back(shared.borrow(model, CAUSAL, 0, "cpu"))
    changed = models.load_headed(model, CAUSAL, 0)
    with torch.no_grad():
        changed.lm_head.weight.add_(1)
    changed.save_pretrained(tmp_path / "mine")
    assert torch.equal(shared.borrow(model, CAUSAL, 0, "cpu").lm_head.weight, changed.lm_head.weight)


@pytest.mark.parametrize(("name", "count"), [("lora", 1), ("full", 2)])
def test_random_weights_are_drawn_anew_where_they_have_moved(name: str, count: int, loads: list[str]) -> None:
    model = Model(name="tiny-llama")
    adapter = example(name, steps=STEPS)
    lent = shared.borrow(model, CAUSAL, 0, "cpu")
    adapter.attach(lent, TARGETS["llama"])
    train(adapter, lent, optimizer_for(lent), range(STEPS))
    shared.give_back(adapter)
    assert same(shared.borrow(model, CAUSAL, 1, "cpu"), models.load_headed(model, CAUSAL, 0))
    assert len(loads) == count


@pytest.mark.parametrize("head", ["fresh", "keep"])
def test_narrow_weights_are_rounded_once(head: str, tmp_path: Path) -> None:
    source = models.load_headed(Model(name="tiny-bert"), CLASSES, 0)
    source.save_pretrained(tmp_path)
    model = Model(name=str(tmp_path), weights="bfloat16", head=head)
    for seed in (0, 1):
        lent, fresh = shared.borrow(model, CLASSES, seed, "cpu"), models.load_headed(model, CLASSES, seed)
        assert lent.bert.encoder.layer[0].attention.self.query.weight.dtype == torch.bfloat16
        assert lent.classifier.weight.dtype == torch.float32
        assert same(lent, fresh)
        assert torch.equal(outputs(lent.eval()), outputs(fresh.eval()))
        shared.give_back(used(lent, "lora"))


def test_what_the_loader_puts_together_is_loaded_anew(tmp_path: Path, loads: list[str]) -> None:
    """Mixtral's experts stand one by one in its files, and are one tensor in the model."""
    model = saved(tmp_path, "mixtral", AutoModelForCausalLM, num_local_experts=2, num_key_value_heads=2)
    for _ in range(2):
        lent = shared.borrow(model, CAUSAL, 0, "cpu")
        assert same(lent, models.load_headed(model, CAUSAL, 0))
        adapter = adapters.create("full")
        adapter.attach(lent, ["q_proj"])
        with torch.no_grad():
            for parameter in lent.parameters():
                parameter.add_(1)
        shared.give_back(adapter)
    assert len(loads) == 2


def mapped() -> Callable[[Tensor], bool]:
    """Whether a tensor lies in a file that is mapped into this process, as the system tells it."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [line[0].split("-") for line in lines if line[-1].endswith(".safetensors")]
    return lambda tensor: any(int(a, 16) <= tensor.data_ptr() < int(b, 16) for a, b in spans)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells")
@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_a_load_makes_no_copy_in_main_memory(weights: Any, tmp_path: Path) -> None:
    """Nor does reading again what has moved: what is used is the file's own memory."""
    model = saved(tmp_path, "llama", AutoModelForCausalLM, dtype=weights).model_copy(
        update={"weights": weights}
    )
    for _ in range(2):
        lent = shared.borrow(model, CAUSAL, 0, "cpu")
        is_mapped = mapped()
        assert lent.dtype == getattr(torch, weights)
        assert all(is_mapped(parameter) for parameter in lent.parameters())
        adapter = adapters.create("full" if weights == "float32" else "lora")
        adapter.attach(lent, ["q_proj"])
        for parameter in lent.parameters():
            parameter.data = parameter.data.clone()
        shared.give_back(adapter)
