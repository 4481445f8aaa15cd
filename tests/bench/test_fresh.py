"""What a checkpoint does not hold is new and trained; a head of another task is no start unless asked for."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from rankbench import adapters, tasks
from rankbench.bench import models
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks import Head
from tests.tiny_text import SHARED_HUB

SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
BODY = {**SMALL, "intermediate_size": 48, "pad_token_id": 0}
KINDS: dict[str, dict[str, Any]] = {
    "bert": BODY,
    "roberta": BODY,
    "electra": {**BODY, "embedding_size": 16},
    "deberta": BODY,
    "deberta-v2": BODY,
    "albert": {**BODY, "embedding_size": 16},
    "mpnet": BODY,
    "distilbert": {"vocab_size": 99, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "xlnet": {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "modernbert": {**BODY, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "gpt2": {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "llama": BODY,
}


def built(auto: Any, kind: str, **changes: Any) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return auto.from_config(AutoConfig.for_model(kind, **KINDS[kind], **changes))


def saved(folder: Path, model: PreTrainedModel, drop: str | None = None) -> Model:
    """A checkpoint of this model, without the weights whose name holds `drop`."""
    model.save_pretrained(folder)
    if drop is not None:
        file = folder / "model.safetensors"
        held = {key: tensor for key, tensor in load_file(file).items() if drop not in key}
        save_file(held, file, metadata={"format": "pt"})
    return Model(name=str(folder))


def weights(model: PreTrainedModel, names: list[str]) -> list[torch.Tensor]:
    return [p for name in names for p in model.get_submodule(name).parameters()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForMaskedLM, AutoModelForCausalLM])
def test_what_the_checkpoint_does_not_hold_is_drawn_and_trained(kind: str, auto: Any, tmp_path: Path) -> None:
    try:
        source = built(auto, kind)
    except ValueError:
        pytest.skip("no such class of this architecture")
    model = saved(tmp_path, source)
    target = built(AutoModelForSequenceClassification, kind)
    held = set(source.state_dict()) | {f"{target.base_model_prefix}.{name}" for name in source.state_dict()}
    missing = {name for name, _ in target.named_parameters()} - held
    one, again, other = (models.load_headed(model, Head("sequence", 2), seed=s) for s in (0, 0, 1))
    names = models.heads(one, model)
    fresh = {name for name, _ in one.named_parameters() if name.rpartition(".")[0] in names}
    assert fresh == missing
    drawn = [p for p in weights(one, names) if p.ndim > 1]
    assert drawn
    assert all(torch.equal(a, b) for a, b in zip(weights(one, names), weights(again, names), strict=True))
    assert not any(
        torch.equal(a, b)
        for a, b in zip(drawn, [p for p in weights(other, names) if p.ndim > 1], strict=True)
    )
    kept = set(dict(one.named_parameters())) - missing
    mine = one.state_dict()
    theirs = {name.removeprefix(f"{one.base_model_prefix}."): t for name, t in source.state_dict().items()}
    assert all(torch.equal(mine[n], theirs[n.removeprefix(f"{one.base_model_prefix}.")]) for n in kept)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("distilbert", {"pre_classifier", "classifier"}),
        ("bert", {"bert.pooler.dense", "classifier"}),
        ("roberta", {"classifier.dense", "classifier.out_proj"}),
        ("deberta-v2", {"pooler.dense", "classifier"}),
        ("albert", {"albert.pooler", "classifier"}),
        ("modernbert", {"classifier"}),
    ],
)
def test_a_masked_language_model_leaves_these_to_be_trained(
    kind: str, expected: set[str], tmp_path: Path
) -> None:
    """BERT's and ALBERT's poolers are not in such a checkpoint; ModernBERT's `head` is, pretrained."""
    model = saved(tmp_path, built(AutoModelForMaskedLM, kind))
    assert set(models.heads(models.load_headed(model, Head("sequence", 2), 0), model)) == expected
    assert set(models.heads(models.empty_model(model, Head("sequence", 2)), model)) == expected


def test_they_are_trained_and_nothing_else_of_the_model_is(tmp_path: Path) -> None:
    model = saved(tmp_path, built(AutoModelForMaskedLM, "distilbert"))
    loaded = models.load_headed(model, Head("sequence", 2), seed=0)
    adapter = adapters.create("lora", rank=2)
    adapter.attach(loaded, ["q_lin"], heads=models.heads(loaded, model))
    trained = {n for n, p in loaded.named_parameters() if p.requires_grad and not n.endswith((".A", ".B"))}
    assert trained == {f"{n}.{p}" for n in ("pre_classifier", "classifier") for p in ("weight", "bias")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [2, 3])
def test_another_tasks_head_is_drawn_anew(kind: str, labels: int, tmp_path: Path) -> None:
    """Whether its size is the task's or not, whole, and by the seed."""
    source = built(AutoModelForSequenceClassification, kind, num_labels=labels)
    model = saved(tmp_path, source)
    one, other = (models.load_headed(model, Head("sequence", 2), seed=s) for s in (0, 1))
    names = models.heads(one, model)
    assert names == adapters.targets.task_head(one)
    for mine, theirs, old in zip(
        weights(one, names), weights(other, names), weights(source, names), strict=True
    ):
        if mine.ndim > 1:
            assert not torch.equal(mine, theirs)
            assert mine.shape != old.shape or not torch.equal(mine, old)
    assert models.heads(models.empty_model(model, Head("sequence", 2)), model) == names


@pytest.mark.parametrize("kind", ["bert", "distilbert", "llama"])
def test_a_head_is_kept_where_asked_for(kind: str, tmp_path: Path) -> None:
    source = built(AutoModelForSequenceClassification, kind, num_labels=2)
    model = saved(tmp_path, source).model_copy(update={"head": "keep"})
    loaded = models.load_headed(model, Head("sequence", 2), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), source.parameters(), strict=True))
    assert models.heads(loaded, model) == adapters.targets.task_head(loaded)
    with pytest.raises(ConfigError, match=r"of another size: .* is .*, the task needs .*; leave `head` out"):
        models.load_headed(model, Head("sequence", 5), seed=0)


MNLI = ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    "theirs", [MNLI, ["ENTAILMENT", "Neutral", "contradiction"], ["LABEL_0", "LABEL_1", "LABEL_2"]]
)
def test_a_kept_heads_classes_are_the_tasks_as_far_as_they_are_named(theirs: Any, tmp_path: Path) -> None:
    source = built(AutoModelForSequenceClassification, "bert", id2label=dict(enumerate(theirs)))
    model = saved(tmp_path, source).model_copy(update={"head": "keep"})
    loaded = models.load_headed(model, Head("sequence", 3, MNLI), seed=0)
    assert torch.equal(loaded.classifier.weight, source.classifier.weight)


@pytest.mark.parametrize(
    "theirs", [["contradiction", "neutral", "entailment"], ["business", "sport", "tech"]]
)
def test_a_kept_head_of_other_classes_is_refused(theirs: Any, tmp_path: Path) -> None:
    """A well-known checkpoint for natural language inference has the classes in the other order."""
    source = built(AutoModelForSequenceClassification, "bert", id2label=dict(enumerate(theirs)))
    model = saved(tmp_path, source).model_copy(update={"head": "keep"})
    with pytest.raises(ConfigError, match=f"of its checkpoint are {', '.join(theirs)}, and the task's ent"):
        models.load_headed(model, Head("sequence", 3, MNLI), seed=0)


SCRIPTS = ["плохо хорошо", "差 好", "नहीं नही", "− +", "☹ ☺", "<1 ≥1", "c c++", "-1 1", "no-no NO"]


@pytest.mark.parametrize("names", SCRIPTS)
def test_classes_of_any_script_and_sign_are_told_apart(names: str) -> None:
    first, second = names.split()
    model = Model(name="./m", head="keep")
    config = SimpleNamespace(id2label={0: first.upper(), 1: unicodedata.normalize("NFD", second)})
    models.fresh.refuse_other_classes(model, config, Head("sequence", 2, (first, second)))
    with pytest.raises(ConfigError, match="and the task's"):
        models.fresh.refuse_other_classes(model, config, Head("sequence", 2, (second, first)))


@pytest.mark.parametrize("name", ["cola", "mrpc", "rte", "sst2"])
def test_the_classes_of_glue_are_named_as_in_the_data(name: str) -> None:
    folder = SHARED_HUB / "nyu-mll" / "glue"
    if not folder.is_dir():
        pytest.skip("the shared mirror is not there")
    schema = pyarrow.parquet.read_schema(folder / name / "train-00000-of-00001.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert tuple(features["label"]["names"]) == tasks.create(name).head.labels


def test_a_language_model_has_no_head_to_keep(tmp_path: Path) -> None:
    model = saved(tmp_path, built(AutoModelForCausalLM, "llama")).model_copy(update={"head": "keep"})
    with pytest.raises(ConfigError, match="`head: keep` is for tasks with a classification head"):
        models.load_headed(model, Head("causal"), seed=0)


def test_there_must_be_a_head_to_keep(tmp_path: Path) -> None:
    model = saved(tmp_path, built(AutoModel, "bert")).model_copy(update={"head": "keep"})
    with pytest.raises(ConfigError, match="its checkpoint holds no classifier; leave `head` out for a fresh"):
        models.load_headed(model, Head("sequence", 2), seed=0)


@pytest.mark.parametrize(
    ("kind", "drop", "example"),
    [
        ("bert", "encoder.layer.1", "bert.encoder.layer.1"),
        ("bert", "word_embeddings", "bert.embeddings.word_embeddings.weight"),
        ("bert", "layer.0.output.LayerNorm.bias", "bert.encoder.layer.0.output.LayerNorm.bias"),
        ("bert", "pooler.dense.bias", "bert.pooler.dense.bias"),
        ("llama", "layers.1.mlp", "model.layers.1.mlp"),
        ("llama", "model.norm", "model.norm.weight"),
        ("gpt2", "", "transformer.wte"),
        ("distilbert", "transformer.layer", "distilbert.transformer.layer.0"),
    ],
)
def test_a_checkpoint_without_a_part_of_the_body_is_refused(
    kind: str, drop: str, example: str, tmp_path: Path
) -> None:
    model = saved(tmp_path, built(AutoModelForSequenceClassification, kind), drop)
    message = f"its checkpoint lacks .* of the model's .* weights, {example}.* among them"
    with pytest.raises(ConfigError, match=message) as caught:
        models.load_headed(model, Head("sequence", 2), seed=0)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        models.heads(models.empty_model(model, Head("sequence", 2)), model)


def test_a_body_of_another_shape_than_its_configuration_is_refused(tmp_path: Path) -> None:
    model = saved(tmp_path, built(AutoModel, "bert"))
    built(AutoModel, "bert").config.__class__(**{**BODY, "intermediate_size": 64}).save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"does not fit its config.json: bert.*intermediate.* is \(48,.*not \(64,"
    ):
        models.load_headed(model, Head("sequence", 2), seed=0)


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForMaskedLM, AutoModelForCausalLM])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "xlnet", "gpt2", "llama"])
def test_a_configuration_with_fewer_layers_than_the_checkpoint_is_refused(
    kind: str, auto: Any, tmp_path: Path
) -> None:
    try:
        model = saved(tmp_path, built(auto, kind))
    except ValueError:
        pytest.skip("no such class of this architecture")
    config = json.loads((tmp_path / "config.json").read_text())
    (count,) = {"num_hidden_layers", "n_layers", "n_layer"} & config.keys()
    config |= {count: 1} | ({"layer_types": config["layer_types"][:1]} if "layer_types" in config else {})
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"fewer layers than its checkpoint, which holds .*\.1\."):
        models.load_headed(model, Head("sequence", 2), seed=0)


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_output_layer_is_there_and_another_missing_one_is_told(tied: bool, tmp_path: Path) -> None:
    model = saved(tmp_path / "whole", built(AutoModelForCausalLM, "llama", tie_word_embeddings=tied))
    loaded = models.load_headed(model, Head("causal"), seed=0)
    assert models.heads(loaded, model) == []
    body = saved(tmp_path / "body", built(AutoModel, "llama", tie_word_embeddings=tied))
    if tied:
        assert models.heads(models.load_headed(body, Head("causal"), seed=0), body) == []
    else:
        with pytest.raises(ConfigError, match=r"holds no output layer \(lm_head.weight\)"):
            models.load_headed(body, Head("causal"), seed=0)


def test_a_model_without_a_checkpoint_has_its_head_by_its_class() -> None:
    loaded = models.load_headed(Model(name="tiny-bert"), Head("sequence", 2), seed=0)
    assert models.heads(loaded, Model(name="tiny-bert")) == ["classifier"]
    assert models.heads(nn.Linear(2, 2)) == []
