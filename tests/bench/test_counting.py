"""Bytes are counted as closed forms say, and few layers stand for many."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import MambaConfig, MambaForCausalLM

from rankbench.bench.cost import memory
from rankbench.bench.cost.counting import Place, counting
from rankbench.bench.cost.inputs import Longest, allowed, given, scored_together
from rankbench.bench.cost.room import at_most, refuse_too_large
from rankbench.bench.cost.sizes import shape, sizes
from rankbench.bench.records import FailureRecord
from rankbench.bench.run.job import make_task, resolve
from rankbench.bench.run.start import ready
from rankbench.bench.suite import AdapterSpec, Model
from tests.bench.tiny_suite import record_of
from tests.tiny_architectures import DEBERTA, LLAMA_3, save, spec_of

MIB = 1024**2


def test_what_lives_is_counted_from_its_first_use_to_its_last():
    with counting("cpu") as counter:
        counter.begin("work")
        x = torch.empty(MIB)  # 4 MiB
        y = x.view(2, -1).t() * 2  # a view is nothing, its product 4 MiB more
        del x
        counter.begin("later")
        y.add_(1)
        del y
        assert counter.now == 0
    assert counter.peaks == {Place("loading"): 0, Place("work"): 8 * MIB, Place("later"): 4 * MIB}


def test_a_value_that_is_asked_for_is_there():
    with counting("cpu") as counter:
        counter.begin("work")
        x = torch.empty(3)
        assert x.isfinite().all()
        assert x.sum().item() == 1
        assert not x.isinf().any()
        assert not x.isnan().any()


def test_where_values_say_how_many_it_is_the_most():
    """As UniLoRA counts how often each of its parameters is used, and takes those that are."""
    with counting("cpu") as counter:
        x = torch.empty(1024, 512)
        often = torch.bincount(torch.empty(8, dtype=torch.long), minlength=1024)
        counter.begin("work")
        assert x[often > 0].shape == x.shape
    assert counter.peaks[Place("work")] == pytest.approx(4 * MIB, rel=0.01)


def test_a_layers_copy_is_of_the_same_kind():
    """PEFT copies layers. One with a mode of its own has crashed the interpreter, several counts later."""
    with counting("cpu") as counter:
        layer = nn.Linear(1024, 1024, bias=False)
        counter.begin("work")
        copied = copy.deepcopy(layer)
        assert copied.weight.fake_mode is layer.weight.fake_mode
    assert counter.peaks[Place("work")] == 8 * MIB


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_an_operation_makes_inside_is_counted(mode):
    """The log-probabilities beside the logits, and a loss a row."""
    with counting("cpu") as counter, mode():
        counter.begin("work")
        F.cross_entropy(torch.empty(256, 1024), torch.empty(256, dtype=torch.long), reduction="none")
    assert counter.peaks[Place("work")] == pytest.approx(2 * MIB, rel=0.01)


def test_a_step_by_hand():
    """Adam's step of a linear layer without bias: weight, gradient, two moments, and the input, output and
    its gradient."""
    width, rows = 256, 32
    with counting("cpu") as counter:
        counter.begin("work")
        layer = nn.Linear(width, width, bias=False)
        optimizer = torch.optim.AdamW(layer.parameters(), fused=True)
        for _ in range(2):
            layer(torch.empty(rows, width)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    at_least = 4 * (4 * width**2 + width * rows)
    assert at_least <= counter.peaks[Place("work")] < at_least + 4 * 3 * width * rows + 1024


DEEP = 5


@pytest.fixture(scope="module")
def deep(tmp_path_factory) -> dict[str, Path]:
    """Models of five layers, by the architecture."""
    folders = {}
    for name in (DEBERTA, LLAMA_3):
        folders[name] = tmp_path_factory.mktemp("deep")
        save(name, folders[name], num_hidden_layers=DEEP)
    return folders


RECIPES = {
    "plain": {},
    "autocast": {"precision": "bf16", "accumulation": 2},
    "recomputed": {"gradient_checkpointing": True},
}


@pytest.mark.parametrize(
    ("name", "adapter", "recipe"),
    [
        (LLAMA_3, "lora", "autocast"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (LLAMA_3, "full", "plain"),
                (LLAMA_3, "scalora", "recomputed"),
                (DEBERTA, "lora2", "plain"),
                (DEBERTA, "dora", "recomputed"),
            )
        ),
    ],
)
def test_few_layers_stand_for_many(name, adapter, recipe, deep):
    cell = "tiny-causal--lora--s0" if name == LLAMA_3 else "tiny-classification--lora--s0"
    spec = spec_of("smoke", cell)
    spec = spec.model_copy(
        update={
            "model": Model(name=str(deep[name])),
            "targets": ["q_proj", "up_proj"] if name == LLAMA_3 else ["query_proj", "intermediate.dense"],
            "adapter": AdapterSpec.model_validate(
                {"name": adapter, **({} if adapter == "full" else {"rank": 4})}
            ),
            "training": spec.training.model_copy(update=RECIPES[recipe]),
        }
    )
    task = make_task(spec)
    work = memory._Work(("test", adapter, recipe), Longest(12, 2), "cpu", spec, task)
    for count, few in ((memory._step, 1), (memory._scoring, 2)):
        all_layers, found = count(work, DEEP), memory._grown(count, work, few)
        assert max(found.values()) == pytest.approx(max(all_layers.values()), rel=0.01)


def test_targets_of_single_layers_are_counted_with_all(deep):
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    model = {"model": Model(name=str(deep[LLAMA_3]))}
    last = spec.model_copy(update=model | {"targets": ["layers.4.self_attn.q_proj"]})
    every = spec.model_copy(update=model | {"targets": ["q_proj"]})
    assert memory.peak(last).bytes < memory.peak(every).bytes


def test_what_writes_answers_is_not_counted_as_what_chooses_among_them():
    """lm-eval asks for the whole vocabulary at each token of a choice, and for one token of what is written:
    whichever is counted first, on one model and with texts of one length."""
    spec, found = spec_of("smoke", "tiny-causal--lora--s0"), {}
    for name in ("gsm8k", "boolq"):
        task = {"name": name, "max_length": 64, "scoring_batch": 4}
        found[name] = memory.phases(spec.model_copy(update={"task": task}))["scoring"]
    logits = 4 * 4 * 64 * 128  # float32, batch, tokens, words
    assert found["boolq"] - found["gsm8k"] >= logits


def test_a_run_that_does_not_fit_ends_before_its_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("rankbench.bench.cost.room.available", lambda: MIB // 16)
    monkeypatch.setattr("rankbench.bench.models.load_model", lambda *_: pytest.fail("it was loaded"))
    record = record_of(spec_of("smoke", "tiny-causal--lora--s0"), tmp_path)
    assert isinstance(record, FailureRecord)
    assert record.kind == "memory"
    assert "holds 0.0 GiB at its peak (training), this machine has 0.0 in all" in record.reason
    assert "say `weights: bfloat16 or nf4`" in record.reason
    assert "lower batch_size and raise accumulation, or set gradient_checkpointing" in record.reason
    assert "\n" not in record.reason


def test_a_run_that_may_fit_is_not_refused(monkeypatch):
    """A count may be somewhat above what is needed."""
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    prepared = ready(resolve(spec))[1]
    needed = memory.peak(spec, given(spec, prepared)).bytes
    monkeypatch.setattr("rankbench.bench.cost.room.available", lambda: 0.85 * needed)
    refuse_too_large(spec, prepared)
    monkeypatch.setattr("rankbench.bench.cost.room.available", lambda: 0.8 * needed)
    with pytest.raises(MemoryError):
        refuse_too_large(spec, prepared)


def test_a_run_is_not_refused_for_what_it_may_never_score(monkeypatch):
    """As many texts as this are only read at once if there are so many, as long as those trained on."""
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    prepared = ready(resolve(spec))[1]
    trains = memory.phases(spec, given(spec, prepared))[memory.TRAINING]
    monkeypatch.setattr(memory.inputs, "scored_together", lambda _: 4096)
    assert memory.peak(spec, given(spec, prepared)).bytes > 10 * trains
    monkeypatch.setattr("rankbench.bench.cost.room.available", lambda: trains)
    refuse_too_large(spec, prepared)


def test_what_is_far_from_full_is_not_counted(monkeypatch):
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    prepared = ready(resolve(spec))[1]
    monkeypatch.setattr("rankbench.bench.cost.room.peak", lambda *_: pytest.fail("it was counted"))
    monkeypatch.setattr("rankbench.bench.cost.room.available", lambda: 1024 * MIB)
    refuse_too_large(spec, prepared)


def test_a_model_without_attention_has_a_bound():
    with torch.device("meta"):
        model = MambaForCausalLM(MambaConfig(num_hidden_layers=1))
    held = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert at_most(model, 16, spec_of("smoke", "tiny-causal--lora--s0"), 12) > held


def test_the_bound_is_above_what_is_counted(deep):
    for name, cell in ((LLAMA_3, "tiny-causal--lora--s0"), (DEBERTA, "tiny-classification--full--s0")):
        spec = spec_of("smoke", cell)
        targets = ["q_proj"] if name == LLAMA_3 else ["query_proj"]
        spec = spec.model_copy(update={"model": Model(name=str(deep[name])), "targets": targets})
        task = make_task(spec)
        longest = Longest(12, 12)
        bound = at_most(shape(spec.model, task.head), scored_together(task), spec, longest.tokens)
        assert memory.peak(spec, longest).bytes < bound


def test_what_cannot_be_counted_is_said_to_be(monkeypatch):
    """A step that asks for shapes that hang on values: what is surely held is told, with the reason."""
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    spec = spec.model_copy(update={"targets": ["v_proj"]})  # not counted before
    monkeypatch.setattr(memory.inputs, "loss", lambda task, model, given: given["input_ids"].nonzero().sum())
    found, size = memory.peak(spec), sizes(spec, make_task(spec))
    assert found.phase == "at least, not counted: DynamicOutputShapeException"
    assert found.bytes == 4 * size.total + 12 * size.trainable


def test_texts_are_no_longer_than_the_model_has_positions(deep):
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    model = Model(name=str(deep[LLAMA_3]))
    task = make_task(spec)
    positions = shape(model, task.head).config.max_position_embeddings
    task.max_length = 10 * positions
    assert allowed(task, shape(model, task.head).config).tokens == positions
    assert allowed(task, None).tokens == task.max_length


def test_the_longest_example_is_one_that_is_trained_on():
    spec = spec_of("smoke", "tiny-classification--lora--s0")
    prepared = ready(resolve(spec))[1]
    assert given(spec, prepared) == (max(prepared.lengths), 0)
    one = spec.model_copy(update={"training": spec.training.model_copy(update={"steps": 1, "batch_size": 1})})
    assert given(one, prepared).tokens in prepared.lengths
