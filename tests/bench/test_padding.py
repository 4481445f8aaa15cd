"""A text alone and beside a long one scores the same: model and tokenizer agree on where padding begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from rankbench.bench import models
from rankbench.bench.suite import ConfigError, Model
from rankbench.tasks import Head
from rankbench.tasks.causal.loss import answer_loss, collate_left
from tests.tiny_text import tokenizer

SMALL = {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "intermediate_size": 48},
    "gpt2": {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "opt": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "xlnet": {"vocab_size": 260, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "bert": {**SMALL, "intermediate_size": 48},
    "roberta": {**SMALL, "intermediate_size": 48},
}


def saved(
    folder: Path,
    kind: str,
    settings: dict[str, Any],
    pad: str | None = "<pad>",
    side: str = "right",
    **ids: Any,
) -> Model:
    """A model whose configuration has these special ids, beside a tokenizer that pads with `pad`."""
    config = AutoConfig.for_model(kind, **KINDS[kind])
    for key, value in ids.items():
        setattr(config, key, value)
    causal = kind not in ("bert", "roberta")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = (AutoModelForCausalLM if causal else AutoModelForSequenceClassification).from_config(config)
    model.save_pretrained(folder)
    made = tokenizer()
    made.pad_token = pad
    for key, value in settings.items():
        setattr(made, key, value)
    made.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": side}))
    return Model(name=str(folder))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("ids", [{"pad_token_id": None}, {"pad_token_id": 70}, {"eos_token_id": [3, 70]}])
def test_a_text_scores_alone_as_beside_a_long_one(kind: str, side: str, ids: Any, tmp_path: Path) -> None:
    if kind == "roberta":  # its positions begin after the padding id that it was built with
        ids = {}
    model = saved(tmp_path, kind, {}, side=side, **ids)
    loaded = models.load_headed(model, Head("sequence", 2), seed=0).eval()
    made = models.load_tokenizer(model)
    assert made is not None
    assert loaded.config.get_text_config().pad_token_id == loaded.config.pad_token_id == made.pad_token_id
    texts = ["short", "a text that is very much longer than the other one"]
    with torch.inference_mode():
        together = loaded(**_kept(made(texts, padding=True, return_tensors="pt"))).logits
        for text, beside in zip(texts, together, strict=True):
            torch.testing.assert_close(loaded(**_kept(made([text], return_tensors="pt"))).logits[0], beside)
    assert not torch.allclose(together[0], together[1])


def _kept(encoded: Any) -> dict[str, torch.Tensor]:
    return {key: encoded[key] for key in ("input_ids", "attention_mask")}


WIDE = {"vocab_size": 260, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4}
WIDE |= {"decoder_ffn_dim": 48, "encoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
DECODERS: dict[str, dict[str, Any]] = {
    **{kind: KINDS[kind] for kind in ("llama", "gpt2", "opt", "xlnet")},
    "mamba": {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "rwkv": {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2},
    **dict.fromkeys(("bart", "marian", "whisper"), WIDE),
}


MOVED = "reads a text otherwise where padding stands"
REFUSED = {"bart": MOVED, "marian": MOVED, "rwkv": MOVED, "xlnet": "each token sees those after it"}
REFUSED |= {"whisper": "the logits of 5 tokens where 3 are asked for"}


@pytest.mark.parametrize(
    ("kind", "weights"),
    [*((kind, "float32") for kind in DECODERS), *((kind, "bfloat16") for kind in ("llama", "bart", "rwkv"))],
)
def test_a_decoder_that_answers_cannot_be_taught_is_refused(
    kind: str, weights: Literal["float32", "bfloat16"], tmp_path: Path
) -> None:
    """By padding: the loss of a batch would not be the sum of its answers' losses."""
    why = REFUSED.get(kind)
    config = AutoConfig.for_model(kind, **DECODERS[kind], pad_token_id=0, bos_token_id=1, eos_token_id=2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = AutoModelForCausalLM.from_config(config).eval()
    made.save_pretrained(tmp_path)
    if kind not in ("xlnet", "whisper"):
        short, long = ({"input_ids": ids, "answer": [7, 9]} for ids in ([5, 6, 7], [8, 9, 10, 11, 12, 13, 7]))
        with torch.no_grad():
            apart = [answer_loss(made, collate_left([each]).inputs) for each in (short, long)]
            together = answer_loss(made, collate_left([short, long]).inputs)
        assert torch.isclose(sum(apart, torch.zeros(())), together) == (why is None)
    model, before = Model(name=str(tmp_path), weights=weights), torch.get_rng_state()
    if why is None:
        assert not models.load_headed(model, Head("causal"), seed=0).training
    else:
        with pytest.raises(ConfigError, match=rf"\({kind}\): .*{why}.*; name another decoder for this task$"):
            models.load_headed(model, Head("causal"), seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "ids", "pads_with"),
    [
        ({}, {}, "<eos>"),
        ({"eos_token": None}, {"eos_token_id": [3, 2]}, "<eos>"),
        ({"eos_token": None}, {"eos_token_id": 2}, "<sep>"),
    ],
)
def test_without_a_padding_token_the_end_token_pads(
    changes: Any, ids: Any, pads_with: str, tmp_path: Path
) -> None:
    model = saved(tmp_path, "llama", changes, pad=None, **ids)
    made = models.load_tokenizer(model)
    assert made is not None
    assert made.pad_token == pads_with
    loaded = models.load_headed(model, Head("sequence", 2), seed=0)
    assert loaded.config.pad_token_id == made.pad_token_id


@pytest.mark.parametrize("end", [None, []])
def test_a_tokenizer_with_neither_is_refused(end: Any, tmp_path: Path) -> None:
    model = saved(tmp_path, "llama", {"eos_token": None}, pad=None, eos_token_id=end)
    with pytest.raises(ConfigError, match="has neither a padding nor an end token; set `pad_token`"):
        models.load_tokenizer(model)


def test_tasks_that_bring_ids_pad_with_zero() -> None:
    loaded = models.load_headed(Model(name="tiny-llama"), Head("sequence", 2), seed=0)
    assert loaded.config.pad_token_id == 0


@pytest.mark.parametrize("added", [["<new>"], [f"<{i}>" for i in range(20)]])
def test_a_tokenizer_larger_than_the_embedding_is_refused(added: list[str], tmp_path: Path) -> None:
    model = saved(tmp_path, "bert", {})
    made = tokenizer()
    made.add_tokens(added)
    made.save_pretrained(tmp_path)
    message = rf"ids go up to {259 + len(added)} \('{added[-1]}'\), but its embedding has 260 rows; resize"
    with pytest.raises(ConfigError, match=message):
        models.load_headed(model, Head("sequence", 2), seed=0)
    with pytest.raises(ConfigError, match=message):
        models.empty_model(model, Head("sequence", 2))


def test_a_model_without_a_table_of_tokens_takes_any(tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    AutoModel.from_config(AutoConfig.for_model("canine", **shape)).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    model = Model(name=str(tmp_path))
    models.empty_model(model, Head("sequence", 2))
    models.load_headed(model, Head("sequence", 2), seed=0)
