"""Long answers in chunks: the plain loss and its gradients, without the logits ever being whole."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from rankbench import tasks
from rankbench.bench.run.step import make_accelerator
from rankbench.tasks.causal import chunks, loss, unformed
from tests.tiny_architectures import GEMMA_3, save
from tests.tiny_text import llama

VOCABULARY, ROWS = 264, 5
SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "pad_token_id": 0}
AFTER = {
    "llama": {},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},  # one matrix for words and logits
    "phi": {},  # its output layer has a bias
    "gemma2": {"final_logit_softcapping": 0.5, "head_dim": 8},
    "granite": {"logits_scaling": 7.0},
    "cohere": {"logit_scale": 0.3},
    "gemma3": {},  # with a tower of images
}
EXAMPLES = [
    {"input_ids": [5, 6, 7, 8, 9, 10, 11], "answer": [12]},
    {"input_ids": [20, 21, 22, 30, 31, 33, 34], "answer": [30, 31, loss.IGNORED, 34, 35]},
    {"input_ids": [40, 41, 42, 43], "answer": [41, 42, 43, 44]},
]


@pytest.fixture(scope="module")
def task():
    return tasks.create("tiny-causal")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model of that name, the same at each call."""
    folder = tmp_path_factory.mktemp("gemma")

    def make(name: str) -> nn.Module:
        torch.manual_seed(0)
        if name == "gemma3":
            save(GEMMA_3, folder)
            return AutoModelForCausalLM.from_pretrained(folder).eval()
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **SMALL | AFTER[name])).eval()
        for parameter in model.get_output_embeddings().parameters():
            nn.init.normal_(parameter)
        return model

    return make


@pytest.fixture
def many(monkeypatch):
    """Every batch is a large one, of chunks of five columns: the last is smaller."""
    monkeypatch.setattr(loss, "LARGE", 0)
    monkeypatch.setattr(chunks, "CHUNK", ROWS * VOCABULARY + 1)


@pytest.fixture
def unmade(monkeypatch):
    """Which logits were formed whole although they need not be."""
    found = []
    form = unformed.Unformed.form
    monkeypatch.setattr(unformed.Unformed, "form", lambda self: (found.append(self), form(self))[1])
    return found


def slopes(task, model) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    value = task.loss(model, task.collate(EXAMPLES).inputs) / 3
    value.backward()
    return value.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def apart(found, plain) -> float:
    """How far two models' gradients lie apart, as a share of the latter."""
    assert found[1].keys() == plain[1].keys()
    one, other = (torch.cat([each[1][name].flatten() for name in plain[1]]) for each in (found, plain))
    return ((one - other).norm() / other.norm()).item()


def assert_alike(found, plain) -> None:
    assert found[0] == pytest.approx(plain[0], rel=1e-6)
    assert apart(found, plain) < 1e-6


@pytest.mark.parametrize("name", AFTER)
@pytest.mark.parametrize("trained", ["all", "q_proj", "head"])
def test_value_and_gradients_are_the_plain_ones(task, made, name, trained, many, unmade, monkeypatch):
    model = made(name)
    head = model.get_output_embeddings()
    for place, parameter in model.named_parameters():
        of_head = any(parameter is each for each in head.parameters())
        chosen = {"all": True, "q_proj": "q_proj" in place or "c_attn" in place, "head": of_head}
        parameter.requires_grad_(chosen[trained])
    found = slopes(task, model)
    assert unmade == []
    monkeypatch.setattr(loss, "LARGE", 2**27)
    assert_alike(found, slopes(task, model))


class Sizes(TorchDispatchMode):
    """The most entries of a tensor's memory, and how often the head's weight is cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self.casts = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, torch.Tensor) and each.device.type != "meta":
                self.most = max(self.most, each.untyped_storage().nbytes() // each.itemsize)
                is_cast = func is torch.ops.aten._to_copy.default and each.dtype == torch.bfloat16
                self.casts += is_cast and tuple(each.shape) == (VOCABULARY, 32)
        return found


def test_no_tensor_is_larger_than_a_chunk(task, made, many, monkeypatch):
    model = made("llama")
    model.lm_head.requires_grad_(False)  # its own size is above a chunk's
    batch = task.collate(EXAMPLES * 20)  # 60 × 5 columns
    model.get_input_embeddings().requires_grad_(False)
    model(**{key: tensor for key, tensor in batch.inputs.items() if key != "labels"}, logits_to_keep=1)
    with Sizes() as sizes:
        task.loss(model, batch.inputs).backward()
        task.answers(model, EXAMPLES * 20, batch=60)
    monkeypatch.setattr(loss, "LARGE", 2**27)
    with Sizes() as plain:
        task.loss(model, batch.inputs).backward()
    in_a_layer = 60 * 7 * 48
    assert in_a_layer > ROWS * VOCABULARY
    assert sizes.most == in_a_layer
    assert plain.most == 300 * VOCABULARY > in_a_layer


class Forbids(LlamaForCausalLM):
    """Changes its logits in place, as Chameleon does, and in a way that no chunk shows."""

    def forward(self, **inputs):
        outputs = super().forward(**inputs)
        outputs.logits[..., 41] = -3.0
        outputs.logits = outputs.logits - outputs.logits.mean()
        return outputs


def test_what_a_model_does_otherwise_with_its_logits_is_done(task, many, unmade, monkeypatch):
    torch.manual_seed(0)
    model = Forbids(LlamaConfig(**SMALL)).eval()
    found, answers = slopes(task, model), task.answers(model, EXAMPLES, batch=3)
    assert len(unmade) >= 1
    monkeypatch.setattr(loss, "LARGE", 2**27)
    assert_alike(found, slopes(task, model))
    assert answers[0] == pytest.approx(task.answers(model, EXAMPLES, batch=3)[0], rel=1e-6)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_scores_are_the_plain_ones(task, made, name, many, unmade, monkeypatch):
    model = made(name)
    with torch.no_grad():
        first = int(model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    examples = [*EXAMPLES, {"input_ids": [5, 6, 7], "answer": [first]}]
    likelihoods, greedy = task.answers(model, examples, batch=3)
    with Sizes() as sizes:
        last = task.last_logits(model, examples * 10)[:4]
    assert sizes.most == 40 * 7 * 48 < 2 * 40 * VOCABULARY, "one column's logits, and what a layer makes"
    assert unmade == []
    monkeypatch.setattr(loss, "LARGE", 2**27)
    plain = task.answers(model, examples, batch=3)
    assert likelihoods == pytest.approx(plain[0], rel=1e-6)
    assert greedy == plain[1] == [False, False, False, True]
    torch.testing.assert_close(last, task.last_logits(model, examples), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_in_bfloat16_it_is_as_near_to_float32_as_the_plain_loss(task, made, weights, many, monkeypatch):
    """By autocast the head's weight is cast once, whatever the number of chunks."""
    model = made("gemma2")
    model.get_input_embeddings().requires_grad_(False)  # and with it the head
    exact = slopes(task, model)
    model = make_accelerator("bf16").prepare_model(model) if weights == torch.float32 else model.bfloat16()
    with Sizes() as sizes:
        found = slopes(task, model)
    assert sizes.casts == (weights == torch.float32)
    monkeypatch.setattr(loss, "LARGE", 2**27)
    plain = slopes(task, model)
    assert found[0] == pytest.approx(plain[0], rel=1e-6)
    assert 1e-3 < apart(found, exact) < 1.1 * apart(plain, exact)


def test_few_logits_are_formed_as_ever(task, made, monkeypatch):
    """Committed runs lie below: no number of theirs moves."""
    model, batch = made("llama"), task.collate(EXAMPLES)
    monkeypatch.setattr(loss, "LARGE", 15 * VOCABULARY)
    monkeypatch.setattr(loss, "reading", None)
    inputs = {key: tensor for key, tensor in batch.inputs.items() if key != "labels"}
    logits = model(**inputs, logits_to_keep=5, use_cache=False).logits
    plain = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.inputs["labels"].flatten(), reduction="none"
    )
    assert task.loss(model, batch.inputs).item() == plain.view(3, 5).sum().item()
    monkeypatch.setattr(loss, "LARGE", 15 * VOCABULARY - 1)
    with pytest.raises(TypeError):
        task.loss(model, batch.inputs)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def adapted(model) -> None:
    model.lm_head.__class__ = Doubled


def watched(model) -> None:
    model.lm_head.register_forward_hook(lambda _, __, output: 2 * output)


def replaced(model) -> None:
    forward = model.lm_head.forward
    model.lm_head.forward = lambda x: 2 * forward(x)


@pytest.mark.parametrize("change", [adapted, watched, replaced])
def test_an_output_layer_that_does_more_is_called(task, made, change, many, monkeypatch):
    model = made("llama")
    change(model)
    monkeypatch.setattr(loss, "LARGE", 2**27)
    plain = slopes(task, model)
    monkeypatch.setattr(loss, "LARGE", 0)
    assert slopes(task, model)[0] == plain[0]
    assert unformed.output_of(nn.Sequential(nn.Linear(2, 2))) is None


def test_a_failed_call_leaves_the_model_as_it_was(task, made, many):
    model = made("llama")
    before = copy.copy(vars(model.lm_head))
    with pytest.raises(IndexError):
        task.loss(model, task.collate([{"input_ids": [5, 999], "answer": [6]}]).inputs)
    assert vars(model.lm_head).keys() == before.keys()
    assert not model._forward_hooks


def test_it_can_be_counted_on_tensors_without_values(many, unmade):
    with FakeTensorMode():
        model, ids = llama(), torch.zeros(2, 12, dtype=torch.long)
        loss.answer_loss(model, {"input_ids": ids, "labels": ids}).backward()
        assert model.lm_head.weight.grad.shape == (260, 32)
    assert unmade == []
