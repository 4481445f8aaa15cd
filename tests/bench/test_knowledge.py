"""What a model knew and knows of a general text: read as transformers reads it, told as papers define it."""

from __future__ import annotations

import copy
import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rankbench.bench.records import Curve, RunRecord
from rankbench.bench.run import knowledge, scores
from rankbench.bench.run.failures import Failure, Interrupted, RunFailed
from rankbench.bench.run.job import resolve
from rankbench.bench.run.order import Done, Listener, Order
from rankbench.bench.run.runner import run
from rankbench.bench.suite import Model, RunSpec, Training
from rankbench.tasks import Head
from tests.tiny_text import bert, encoder_tokenizer, gpt2, llama, tokenizer

CAUSAL, SEQUENCE = Head("causal"), Head("sequence", 2)
SENTENCES = knowledge.text().decode().splitlines()


def saved(folder: Path, model: PreTrainedModel, made: PreTrainedTokenizerFast) -> Model:
    model.save_pretrained(folder)
    made.save_pretrained(folder)
    return Model(name=str(folder))


def test_the_text_is_this_one():
    """Another one is another measure: values of both stand in records with the hash of theirs."""
    pinned = "8af9ee23357921934cd8aa85ac95c4a1f464f6a55038d1b6a1373fd6296d1a6a"
    assert hashlib.sha256(knowledge.text()).hexdigest() == pinned
    assert len(SENTENCES) == len(set(SENTENCES)) == 32
    assert all(line.isascii() and line[-1] in '.?"' for line in SENTENCES)


def alone(model: PreTrainedModel, made: PreTrainedTokenizerFast) -> list[tuple[float, int]]:
    """Each sentence's mean loss as transformers computes it, and over how many tokens."""
    found = []
    for sentence in SENTENCES:
        ids = made(sentence, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            found.append((float(model.eval()(input_ids=ids, labels=ids).loss), ids.shape[1] - 1))
    return found


def mean_loss(model: PreTrainedModel, made: PreTrainedTokenizerFast) -> float:
    losses = alone(model, made)
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)


@pytest.mark.numerical
def test_a_causal_model_is_read_as_transformers_reads_each_sentence_alone(tmp_path):
    model, made = llama(), tokenizer()
    losses = knowledge.read(model, saved(tmp_path, model, made), CAUSAL)
    assert losses.shape == (sum(count for _, count in alone(model, made)),)
    assert float(losses.mean()) == pytest.approx(mean_loss(model, made), rel=1e-5)


@pytest.mark.numerical
def test_an_encoder_is_read_as_its_backbone_reads_each_sentence_alone(tmp_path):
    model, made = bert(2), encoder_tokenizer()
    states = knowledge.read(model, saved(tmp_path, model, made), SEQUENCE)
    with torch.no_grad():
        expected = [
            model.eval().bert(**made(sentence, return_tensors="pt")).last_hidden_state[0].mean(0)
            for sentence in sorted(SENTENCES, key=lambda sentence: len(made(sentence)["input_ids"]))
        ]
    torch.testing.assert_close(states, torch.stack(expected))


def test_a_sentence_is_cut_where_the_model_has_no_more_positions(tmp_path):
    """GPT-2's are learned: beyond them it would break. 64 tokens are read of which 63 are predicted."""
    model = gpt2()
    losses = knowledge.read(model, saved(tmp_path, model, tokenizer()), CAUSAL)
    assert len(losses) == sum(min(len(sentence), 64) - 1 for sentence in SENTENCES)


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
OTHERS: dict[str, dict[str, Any]] = {
    "roberta": {**SMALL, "max_position_embeddings": 140},
    "deberta-v2": {**SMALL, "relative_attention": True, "position_buckets": 8, "pos_att_type": "p2c|c2p"},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
    "modernbert": SMALL,
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 16},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "llama": SMALL,
    "bart": {
        "d_model": 16,
        **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 16 for side in ("encoder", "decoder")},
    },
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_backbones_are_read_and_left_as_they_were(kind, tmp_path, monkeypatch):
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, vocab_size=264, num_labels=2, **ends, **OTHERS[kind])
    model = AutoModelForSequenceClassification.from_config(config).train()
    monkeypatch.setattr(knowledge.models, "load_tokenizer", lambda _: encoder_tokenizer())
    drawn = torch.get_rng_state()
    states = knowledge.read(model, Model(name="any"), SEQUENCE)
    assert states.shape == (32, 16)
    assert states.isfinite().all()
    assert model.training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module._forward_hooks for module in model.modules())
    assert knowledge.drift(states, states) == pytest.approx(0, abs=1e-12)


def test_who_reads_no_words_has_forgotten_none(tmp_path):
    assert knowledge.read(nn.Linear(2, 2), Model(name="none"), Head("own")) is None
    assert knowledge.read(llama(), Model(name="tiny-llama"), CAUSAL) is None
    assert knowledge.forgotten(None, None, CAUSAL, 1) is None
    for kind in (models.WordLevel({"<pad>": 0, "кит": 1}), models.BPE({"<pad>": 0, "к": 1}, [])):
        core = Tokenizer(kind)  # without a token for what it does not know: one raises, the other drops it
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        blind = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<pad>")
        model = llama()
        folder = tmp_path / type(kind).__name__
        assert knowledge.read(model, saved(folder, model, blind), CAUSAL) is None


def hsic(one: Tensor, other: Tensor) -> float:
    """HSIC_1 of Song et al. 2012 by its definition, a mean over quadruples of distinct items."""
    k, m = one.double() @ one.double().T, other.double() @ other.double().T
    terms = [
        k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in itertools.permutations(range(len(k)), 4)
    ]
    return float(torch.stack(terms).mean())


@pytest.mark.numerical
def test_drift_is_the_unbiased_alignment_by_its_definition():
    torch.manual_seed(0)
    before, noise = torch.randn(7, 5), torch.randn(7, 3)
    after = torch.cat([before[:, :2] * 3 + 1, noise], dim=1)
    aligned = hsic(before, after) / (hsic(before, before) * hsic(after, after)) ** 0.5
    assert 0.1 < aligned < 0.9
    assert knowledge.drift(before, after) == pytest.approx(1 - aligned, rel=1e-9)


@pytest.mark.numerical
def test_drift_sees_no_shift_rotation_or_scale_and_all_of_a_replacement():
    torch.manual_seed(0)
    before = torch.randn(32, 384)
    rotation = torch.linalg.qr(torch.randn(384, 384))[0]
    assert knowledge.drift(before, 5 * before @ rotation + 100) == pytest.approx(0, abs=1e-6)
    replaced = [knowledge.drift(before, torch.randn(32, 384)) for _ in range(20)]
    # Biased CKA would say that nearly nothing had changed: of few items in many dimensions all look alike.
    assert sum(replaced) / 20 == pytest.approx(1, abs=0.02)
    alike = torch.ones(32, 384)
    assert knowledge.drift(before, alike) == 1
    assert knowledge.drift(alike, before) is None


def test_what_is_not_finite_fails_as_a_score_would():
    read = torch.ones(5)
    with pytest.raises(RunFailed, match="general text is not finite"):
        knowledge.forgotten(read, read / 0, CAUSAL, 3)


def spec(known: Model, task: str, targets: list[str], adapter: str, **training: Any) -> RunSpec:
    settings = {"steps": 6, "batch_size": 8, "learning_rate": 3e-2, "observe": 3, "select": "best"}
    return RunSpec(
        suite="mine", experiment=task, label=adapter, seed=0, task={"name": task, "train": 24},
        model=known, targets=targets, training=Training(**settings | training), adapter={"name": adapter},
    )  # fmt: skip


def record_of(order: Order, listener: Listener | None = None) -> RunRecord:
    done = run(order, listener)
    assert isinstance(done, Done), done
    return done.record


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", "scalora", "full"])
def test_a_run_tells_what_the_weights_that_it_reports_have_forgotten(adapter, tmp_path, monkeypatch):
    """Against the folder's own weights, read by transformers. The first observation scores best."""
    made = tokenizer()
    known = saved(tmp_path / "model", llama(), made)
    merged: dict[int, PreTrainedModel] = {}
    evaluate = scores.evaluate

    def falling(task, model, split, step):
        if split == "test":
            merged[step] = copy.deepcopy(model)
        score = evaluate(task, model, split, step)
        return type(score)(dict.fromkeys(score.metrics, 1 / step), score.predictions)

    monkeypatch.setattr(scores, "evaluate", falling)
    order = Order(resolve(spec(known, "tiny-causal", ["q_proj", "v_proj"], adapter)), tmp_path / "state.pt")
    found = record_of(order).forgetting
    pretrained = AutoModelForCausalLM.from_pretrained(known.name)
    before, after, last = (mean_loss(model, made) for model in (pretrained, merged[2], merged[6]))
    assert found.kind == "loss"
    assert found.value == pytest.approx(after - before, rel=1e-3)
    assert abs(last - after) > 0.01 * abs(after - before)
    assert found.items == sum(count for _, count in alone(pretrained, made))
    assert found.text == hashlib.sha256(knowledge.text()).hexdigest()


@pytest.mark.slow
def test_an_encoders_drift_is_the_same_after_a_stop(tmp_path):
    known = saved(tmp_path / "model", bert(2), encoder_tokenizer())
    job = resolve(spec(known, "tiny-classification", ["query", "value"], "scalora", select="last"))
    whole = record_of(Order(job, tmp_path / "whole.pt"))
    assert whole.forgetting.kind == "drift"
    assert whole.forgetting.items == 32
    assert 0 < whole.forgetting.value < 1
    order, seen = Order(job, tmp_path / "stopped.pt"), Curve()

    def tick(curve: Curve) -> None:
        seen.step[:] = curve.step

    with pytest.raises(Interrupted):
        run(order, Listener(tick, lambda: len(seen.step) == 3))
    resumed = record_of(order)
    assert resumed.timings.legs == 2
    assert resumed.forgetting == whole.forgetting


@pytest.mark.slow
def test_runs_that_start_from_one_model_read_it_once_and_another_seed_reads_it_anew(tmp_path, monkeypatch):
    """Each tells what a process of its own would: the state that is kept is no other run's."""
    known = saved(tmp_path / "model", llama(), tokenizer())
    read, readings = knowledge.read, []

    def counted(*given):
        readings.append(given)
        return read(*given)

    monkeypatch.setattr(knowledge, "read", counted)

    def forgotten(adapter, seed=0):
        made = spec(known, "tiny-causal", ["q_proj"], adapter, select="last", observe=0, steps=3)
        order = Order(resolve(made.model_copy(update={"seed": seed})), tmp_path / f"{adapter}-{seed}.pt")
        found = record_of(order).forgetting.value
        order.checkpoint.unlink()
        return found

    together = [forgotten("lora"), forgotten("full"), forgotten("full", 1)]
    assert len(readings) == 2 + 1 + 2
    knowledge._read_last.clear()
    assert forgotten("full") == together[1]
    assert len(set(together)) == 3


def test_a_model_that_knew_nothing_has_nothing_to_forget(tmp_path):
    job = resolve(spec(Model(name="tiny-bert"), "tiny-classification", ["query"], "lora", steps=3))
    done = run(Order(job, tmp_path / "state.pt"))
    assert not isinstance(done, Failure)
    assert done.record.forgetting is None
