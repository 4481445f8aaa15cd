"""What `plan` says of a run, against what PyTorch counts and what the clock says."""

from __future__ import annotations

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from rankbench.bench import models
from rankbench.bench.cost import speed as speeds
from rankbench.bench.cost.estimate import TRIED, estimate, operations
from rankbench.bench.cost.memory import phases
from rankbench.bench.cost.resources import BESIDE, resources_of
from rankbench.bench.cost.sizes import _sizes, sizes
from rankbench.bench.cost.step import RandomTokens
from rankbench.bench.run.job import make_task
from rankbench.bench.run.start import check
from rankbench.bench.suite import AdapterSpec, Model
from rankbench.bench.suite.described import adapter_of
from rankbench.tasks import Head, TaskError
from tests.bench.tiny_suite import record_of
from tests.tasks.made_data import write_reviews
from tests.tiny_architectures import spec_of
from tests.tiny_text import END_READERS, bert, encoder_tokenizer, write_end_reader

LIBRARY_LORA = {"name": "peft", "config": {"peft_type": "LORA", "lora_alpha": 8}}


@pytest.mark.parametrize("rank", [None, 4, 256])
def test_operations_are_those_that_pytorch_counts(rank):
    """Of full fine-tuning (no rank) and PEFT's LoRA: PyTorch misses products in place, as ours are.
    Attention's scores and the head, which the estimate leaves out, are a few percent here."""
    spec = spec_of("settled", "movie--full--s0")
    if rank:
        lora = LIBRARY_LORA | {"config": LIBRARY_LORA["config"] | {"r": rank}}
        spec = spec.model_copy(update={"adapter": AdapterSpec.model_validate(lora)})
    shape = models.empty_model(spec.model, Head("sequence", 2))
    model = type(shape)(shape.config)
    adapter_of(spec).attach(model, spec.targets, heads=models.heads(model, spec.model))
    tokens = RandomTokens(False, spec.training.batch_size, 32)
    with FlopCounterMode(display=False) as counter:
        tokens.loss(model, tokens.draw(model.config).inputs).backward()
    counted = counter.get_total_flops() * spec.training.steps
    assert operations(spec) == pytest.approx(counted, rel=0.05)


def test_words_that_are_looked_up_are_no_product(tmp_path):
    """GPT-2 calls its tables wte and wpe: of so small a model they are nearly all."""
    config = GPT2Config(vocab_size=5000, n_embd=32, n_layer=2, n_head=4, num_labels=2, pad_token_id=0)
    model = GPT2ForSequenceClassification(config)
    model.save_pretrained(tmp_path)
    spec = spec_of("settled", "movie--full--s0")
    changes = {"model": Model(name=str(tmp_path)), "targets": ["c_attn", "c_proj", "c_fc"]}
    tokens = RandomTokens(False, spec.training.batch_size, 32)
    with FlopCounterMode(display=False) as counter:
        tokens.loss(model, tokens.draw(model.config).inputs).backward()
    counted = counter.get_total_flops() * spec.training.steps
    assert operations(spec.model_copy(update=changes)) == pytest.approx(counted, rel=0.15)


def test_tokens_are_by_what_the_task_itself_says():
    """Its protocol may leave the length out, as a plug-in's does by default, and the toy tasks'."""
    spec = spec_of("smoke", "tiny-classification--full--s0")
    ids = torch.ones(spec.training.batch_size, 6, dtype=torch.long)  # half of the task's 12
    model = models.load_headed(spec.model, Head("sequence", 2), 0)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    assert operations(spec) == pytest.approx(counter.get_total_flops() * spec.training.steps, rel=0.15)


@pytest.mark.parametrize("kind", END_READERS)
def test_steps_of_a_model_that_reads_at_the_end_token_are_tried(kind, tmp_path):
    """It refuses random tokens, in which there is none, or another number in each text."""
    write_end_reader(kind, tmp_path)
    spec = spec_of("settled", "movie--lora--s0")
    targets = {"bart": ["q_proj"], "t5": ["q"]}[kind]
    changes = {"model": Model(name=str(tmp_path)), "targets": targets}
    assert speeds.speed(spec.model_copy(update=changes), 9, 1.0, 1.0) > 0


@pytest.mark.parametrize("kind", ["olmoe", "llama4_text"])
def test_of_a_mixtures_experts_those_count_that_pytorch_computes(kind, tmp_path):
    """Two of sixteen; Llama 4 computes all of them for each token, and weights the outputs."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    experts = {"num_local_experts": 16, "num_experts_per_tok": 2, "intermediate_size_mlp": 48, "head_dim": 8}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, vocab_size=128, num_key_value_heads=2, **shape, **experts, **special)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    if kind == "olmoe":
        model.set_experts_implementation("eager")  # whose products are counted
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.model(torch.randint(5, 100, (4, 8)))
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    spec = spec.model_copy(update={"model": Model(name=str(tmp_path)), "targets": ["q_proj"]})
    size = sizes(spec, make_task(spec))
    counted = counter.get_total_flops() / (2 * 4 * 8)
    assert size.passed - size.adapter == pytest.approx(counted, rel=0.05)


def test_a_model_whose_weights_are_pickled_is_counted_as_one_whose_are_not(tmp_path):
    model, found = bert(2), []
    model.save_pretrained(tmp_path)
    spec = spec_of("settled", "movie--lora--s0")
    spec = spec.model_copy(update={"model": Model(name=str(tmp_path)), "targets": ["query"]})
    for pickled in (False, True):
        if pickled:
            (tmp_path / "model.safetensors").unlink()
            torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
        _sizes.cache_clear()
        found.append(sizes(spec, make_task(spec)))
    assert found[0] == found[1]


@pytest.fixture(autouse=True)
def nothing_tried_yet():
    speeds._seconds_of_a_step.cache_clear()
    yield
    speeds._seconds_of_a_step.cache_clear()


def test_seconds_come_from_steps_that_are_taken(monkeypatch):
    """Whatever the first step takes, the later ones make the run: 100 steps of two micro-batches."""
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    spec = spec.model_copy(update={"adapter": TRIED})
    for taken in (0.25, 1.25):
        speeds._seconds_of_a_step.cache_clear()
        times = iter([9.0, taken, taken])
        monkeypatch.setattr(speeds, "training_step", lambda *_, times=times: lambda turn: next(times))
        assert estimate(spec).seconds == pytest.approx(100 * 2 * taken)


def test_a_workload_is_tried_once_for_all_adapters_seeds_and_learning_rates():
    for cell in ("tiny-causal--lora--s0", "tiny-causal--scalora--s1", "tiny-causal--dora--s0"):
        spec = spec_of("smoke", cell)
        training = spec.training.model_copy(update={"learning_rate": 1e-2})
        estimate(spec)
        estimate(spec.model_copy(update={"training": training}))
    assert speeds._seconds_of_a_step.cache_info().misses == 1


def test_what_is_too_large_to_try_takes_the_speed_of_a_matrix_product(monkeypatch):
    monkeypatch.setattr(speeds, "_seconds_of_a_step", lambda *_: pytest.fail("a step of Llama 2 was tried"))
    monkeypatch.setattr(speeds, "_matrix_speed", lambda: 1e10)
    cost = estimate(spec_of("paper-rslora", "openorca--lora-r8--s0"))
    assert cost.seconds == pytest.approx(cost.operations / 1e10)


def test_steps_are_tried_and_a_card_is_assumed_in_what_the_weights_are_held_in(monkeypatch):
    """Products with weights in bfloat16 are bfloat16's, with autocast as without; a head stays in float32."""
    spec, tried = spec_of("smoke", "tiny-classification--lora--s0"), []
    step = speeds.training_step
    monkeypatch.setattr(speeds, "training_step", lambda *given: tried.append(given[0]) or step(*given))
    hours = {}
    for weights, precision in (("float32", "no"), ("float32", "bf16"), ("bfloat16", "no")):
        model = spec.model.model_copy(update={"weights": weights})
        training = spec.training.model_copy(update={"precision": precision})
        found = estimate(spec.model_copy(update={"model": model, "training": training}))
        hours[weights, precision] = found.gpu_hours
        frozen = {p.dtype for p in tried.pop().parameters() if not p.requires_grad}
        assert frozen == {getattr(torch, weights)}
    assert hours["bfloat16", "no"] == hours["float32", "bf16"] < hours["float32", "no"]


def test_what_is_scored_at_once_does_not_keep_a_step_from_being_tried(monkeypatch):
    needed = []
    monkeypatch.setattr("rankbench.bench.cost.estimate.speed", lambda *told: needed.append(told[-1]) or 1.0)
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    for together in (1, 256):
        task = {"name": "boolq", "max_length": 64, "scoring_batch": together}
        found = estimate(spec.model_copy(update={"task": task}))
    assert found.memory_at == "scoring"
    assert needed[0] == needed[1] < 1024**2 * found.memory


@pytest.mark.parametrize(("kind", "tokens"), [("bert", 42), ("roberta", 40), ("deberta-v2", 42)])
@pytest.mark.parametrize("beyond", [0, 1, 100])
def test_texts_longer_than_the_model_allows_are_refused_as_the_run_refuses_them(
    kind, tokens, beyond, tmp_path
):
    """With twice as many, the step that finds the speed would break the model itself."""
    sizes = {"vocab_size": 260, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 8, "max_position_embeddings": 42, "pad_token_id": 1}
    AutoModel.from_config(AutoConfig.for_model(kind, **sizes)).save_pretrained(tmp_path)
    encoder_tokenizer().save_pretrained(tmp_path)
    write_reviews(tmp_path / "reviews.csv")
    task = {"name": "table", "train": str(tmp_path / "reviews.csv"), "text": "body", "label": "stars"}
    changes = {"model": Model(name=str(tmp_path)), "task": task | {"max_length": tokens + beyond}}
    changes["targets"] = ["query_proj" if kind == "deberta-v2" else "query"]
    spec = spec_of("smoke", "tiny-classification--lora--s0").model_copy(update=changes)
    if not beyond:
        check(spec)
        assert estimate(spec).operations > 0
        return
    with pytest.raises(TaskError, match=f"{tokens + beyond} is above the {tokens} tokens") as refused:
        check(spec)
    with pytest.raises(TaskError, match=re.escape(str(refused.value))):
        estimate(spec)


def test_trying_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    estimate(spec_of("smoke", "tiny-classification--lora--s0"))
    assert torch.equal(torch.rand(2), expected)


def asked(cell: str, **training) -> float:
    """GiB of a 7 billion parameter model's run for each process, beside the process itself."""
    spec = spec_of("paper-rslora", cell)
    spec = spec.model_copy(update={"training": spec.training.model_copy(update=training)})
    found = resources_of(spec)
    assert found.cpus == found.gpus == spec.training.processes
    return (found.memory / found.gpus - BESIDE) / 2**30


def test_a_run_asks_for_its_weights_gradients_moments_and_activations(monkeypatch):
    """Llama 2 has 6.74 billion weights, 25.1 GiB in float32; no step is tried for it."""
    monkeypatch.setattr(speeds, "_seconds_of_a_step", lambda *_: pytest.fail("a step was tried"))
    monkeypatch.setattr(speeds, "_matrix_speed", lambda: pytest.fail("a product was tried"))
    weights = 4 * 6_738_415_616 / 2**30
    alone = asked("openorca--lora-r8--s0")
    assert weights < alone < 1.2 * weights
    buckets = 4 * 8 * 32 * (4 * 8192 + 3 * 15104) / 2**30  # gradients once more, to be averaged
    assert asked("openorca--lora-r8--s0", processes=2) == pytest.approx(alone + buckets)
    halved = asked("openorca--lora-r8--s0", processes=2, shard=True)
    assert alone - halved == pytest.approx(weights / 2 - weights / 32, rel=0.02)


@pytest.mark.slow
def test_frozen_weights_take_what_they_are_held_in():
    """Llama 3 8B: 6.98 billion weights of linear layers; of 4.56 billion ScaLoRA keeps remainders."""

    def held(adapter: str, weights: str) -> float:
        spec = spec_of("paper-commonsense", f"boolq-llama2--{adapter}--s0")
        model = {"name": "random:meta-llama/Meta-Llama-3-8B", "weights": weights}
        return phases(spec.model_copy(update={"model": Model.model_validate(model)}))["between steps"]

    linear = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    unpacked = 2 * 4096 * 14336  # a layer's
    folded = 32 * (4096**2 + 2 * 4096 * 1024 + 2 * 4096 * 14336)
    packed = held("lora", "bfloat16") - held("lora", "nf4")
    assert packed == pytest.approx((2 - 9 / 16) * linear - unpacked, rel=1e-3)
    assert held("scalora", "bfloat16") - held("lora", "bfloat16") == pytest.approx(2 * folded, rel=1e-3)
    saved = held("lora", "float32") - held("lora", "bfloat16")
    assert saved == pytest.approx(2 * 8_030_261_248, rel=1e-3)


@pytest.mark.slow
def test_a_run_takes_about_as_long_as_it_is_said_to(tmp_path):
    """Its steps within a factor of four, on a machine that does other things as well."""
    spec = spec_of("smoke", "tiny-causal--lora--s0")
    record = record_of(spec, tmp_path)
    assert record.timings.train / 4 < estimate(spec).seconds < record.timings.train * 4
