"""Models by name: what is registered is what the packages hold; mistakes are one line."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
)

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.models import build
from rankbench.bench.models.known import REGISTERED
from rankbench.bench.models.weights import location
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks import Head


def test_tiny_models_are_the_same_each_time_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = models.load_headed(Model(name="tiny-bert"), Head("sequence", 3), seed=0)
    assert torch.equal(torch.rand(1), expected)
    other = models.load_headed(Model(name="tiny-bert"), Head("sequence", 3), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert one.classifier.out_features == 3


@pytest.mark.parametrize("name", ["tiny-bert", "tiny-llama", "minilm-l6", "smollm2-135m"])
def test_shapes_without_weights(name):
    head = Head("causal") if "llama" in name or "smol" in name else Head("sequence", 2)
    empty = models.empty_model(Model(name=name), head)
    assert all(p.is_meta for p in empty.parameters())
    # As the model cards say: 22.7M and 135M.
    known = {"minilm-l6": 22_713_986, "smollm2-135m": 134_515_008}
    if name in known:
        assert sum(p.numel() for p in empty.parameters()) == known[name]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Model(name="minilm"), "unknown model 'minilm'; did you mean 'minilm-l6'?"),
        (Model(name="random:minilm"), "unknown model 'random:minilm'; did you mean 'random:minilm-l6'?"),
        (Model(name="owner/name"), "give its hub commit as `revision`"),
        (Model(name="minilm-l6", revision="0" * 40), "is not from the hub: leave its `revision` out"),
        (Model(name="random:minilm-l6", revision="0" * 40), "is not from the hub"),
        (Model(name="/not/there"), "there is no such folder"),
        (Model(name="./there"), "there is no such folder"),
        (Model(name="~/models/mine"), "there is no such folder"),
    ],
)
def test_mistakes_are_named(model, message):
    with pytest.raises(ConfigError) as caught:
        models.identity(model)
    assert message in str(caught.value)


def test_a_folder_is_a_model_and_its_files_are_its_identity(tmp_path):
    source = models.load_headed(Model(name="tiny-bert"), Head("sequence", 2), seed=0)
    source.save_pretrained(tmp_path / "mine")
    model = Model(name=str(tmp_path / "mine"))
    before = models.identity(model)
    loaded = models.load_headed(model, Head("sequence", 2), seed=0)
    assert isinstance(loaded, BertForSequenceClassification)
    held = source.bert.encoder.layer[0].output.dense.weight
    torch.testing.assert_close(loaded.bert.encoder.layer[0].output.dense.weight, held)
    with torch.no_grad():
        source.classifier.weight.add_(1)
    source.save_pretrained(tmp_path / "mine")
    assert models.identity(model) != before


def test_a_folder_is_found_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    models.load_headed(Model(name="tiny-bert"), Head("sequence", 2), seed=0).save_pretrained(
        tmp_path / "mine"
    )
    assert models.identity(Model(name="~/mine")) == models.identity(Model(name=str(tmp_path / "mine")))


@pytest.mark.parametrize(("name", "kind"), [("tiny-llama", "causal"), ("minilm-l6", "sequence")])
def test_shapes_of_a_known_model_can_have_random_weights(name, kind, monkeypatch):
    monkeypatch.setattr("rankbench.bench.models.names.packaged", lambda _: pytest.fail("it was fetched"))
    model, head = Model(name=f"random:{name}"), Head(kind, 2)
    models.fetch(model)
    assert models.load_tokenizer(model) is None
    assert models.identity(model).startswith("random:{")
    shapes = [p.shape for p in models.empty_model(Model(name=name), head).parameters()]
    drawn, again = (models.load_headed(model, head, seed=seed) for seed in (0, 1))
    assert [p.shape for p in drawn.parameters()] == shapes
    assert all(torch.equal(a, b) for a, b in zip(drawn.parameters(), again.parameters(), strict=True))


def test_a_large_models_random_weights_are_drawn_where_they_are_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert build._where_drawn(Model(name="random:meta-llama/Meta-Llama-3-8B")).type == "cuda"
    assert build._where_drawn(Model(name="tiny-llama")).type == "cpu"


def test_no_network_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="owner/name cannot be loaded") as caught:
        models.load_headed(Model(name="owner/name", revision="0" * 40), Head("causal"), seed=0)
    assert "\n" not in str(caught.value)


def test_a_fresh_head_follows_the_seed(tmp_path):
    from transformers import BertModel

    config = models.model_config(Model(name="tiny-bert"))
    BertModel(config).save_pretrained(tmp_path / "body")
    model = Model(name=str(tmp_path / "body"))
    one, again, other = (models.load_headed(model, Head("sequence", 2), seed=s) for s in (0, 0, 1))
    assert torch.equal(one.classifier.weight, again.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert torch.equal(
        one.bert.encoder.layer[0].output.dense.weight, other.bert.encoder.layer[0].output.dense.weight
    )


@pytest.mark.network
def test_the_packaged_encoder_is_what_the_registry_says():
    model = Model(name="minilm-l6")
    held = AutoConfig.from_pretrained(location(model))
    for key, value in REGISTERED["minilm-l6"].config.items():
        assert getattr(held, key) == value, key


@pytest.mark.network
def test_the_packaged_decoder_is_what_the_registry_says_and_speaks():
    model = Model(name="smollm2-135m")
    loaded = models.load_headed(model, Head("causal"), seed=0).eval()
    for key, value in REGISTERED["smollm2-135m"].config.items():
        assert getattr(loaded.config, key) == value, key
    assert all(p.dtype == torch.float32 for p in loaded.parameters())
    tokenizer = models.load_tokenizer(model)
    assert tokenizer is not None
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        out = loaded.generate(ids, max_new_tokens=2, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0])


@pytest.mark.parametrize(
    ("kind", "sees"), [("bert", True), ("roberta", True), ("llama", False), ("gpt2", False)]
)
def test_an_encoder_that_would_see_the_answers_is_refused(kind, sees, tmp_path):
    """Whether a model looks ahead is tried: the first token's outputs move with the last token."""
    small = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(kind, **small, pad_token_id=0)
    made = AutoModelForCausalLM.from_config(config).eval()
    one, other = made(input_ids=torch.tensor([[5, 6, 7], [5, 6, 8]])).logits[:, 0]
    assert torch.allclose(one, other) is not sees
    made.save_pretrained(tmp_path)
    model = Model(name=str(tmp_path))
    if not sees:
        models.load_headed(model, Head("causal"), seed=0)
        return
    for load in (models.empty_model, lambda *given: models.load_headed(*given, seed=0)):
        with pytest.raises(ConfigError, match="each token sees those after it"):
            load(model, Head("causal"))


def test_every_registered_model_states_a_licence():
    assert all(registered.licence for registered in REGISTERED.values())


@pytest.mark.parametrize(("kind", "fresh"), [("deberta-v2", True), ("bert", False)])
def test_a_pooler_is_trained_where_checkpoints_hold_none(kind, fresh):
    config = AutoConfig.for_model(
        kind, vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model = AutoModelForSequenceClassification.from_config(config)
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, r".*encoder.*dense", heads=models.heads(model))
    trained = {name for name, p in model.named_parameters() if p.requires_grad and "lora" not in name}
    assert any("pooler" in name for name in trained) is fresh
    assert any("classifier" in name for name in trained)
