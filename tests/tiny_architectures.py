"""Tiny random models with the switches of the papers' architectures, and the papers' runs cut to them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from rankbench.bench.models.known import ARCHITECTURES
from rankbench.bench.suite import Model, RunSpec, Training, load_suite, plan

DEBERTA, GEMMA_3 = "microsoft/deberta-v3-base", "google/gemma-3-12b-pt"
LLAMA_2, LLAMA_3 = "meta-llama/Llama-2-7b-hf", "meta-llama/Meta-Llama-3-8B"
ENCODERS = (DEBERTA,)

WIDTH = 32
_ENCODER = {"vocab_size": 264, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2}
_ENCODER |= {"num_attention_heads": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_ENCODER |= {"initializer_range": 0.1}
_LLAMA = {"vocab_size": 264, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2}
_LLAMA |= {"num_attention_heads": 4, "initializer_range": 0.1}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SHRUNK: dict[str, dict[str, Any]] = {
    DEBERTA: {**_ENCODER, "position_buckets": 8},
    LLAMA_2: {**_LLAMA, "num_key_value_heads": 4},
    LLAMA_3: {**_LLAMA, "num_key_value_heads": 2},
    GEMMA_3: {
        "text_config": {
            **_LLAMA,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": 4,
            "sliding_window_pattern": 2,  # one layer of each kind
        },
        "vision_config": {**_VISION, "image_size": 28, "patch_size": 14},
        "mm_tokens_per_image": 4,
        "image_token_index": 263,  # a byte-level tokenizer has 260 tokens
    },
}


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        merged[key] = _merged(merged[key], value) if isinstance(merged.get(key), dict) else value
    return merged


def save(name: str, folder: Path, **changes: Any) -> None:
    """A tiny random model of a hub id's architecture, as the hub holds it: encoders without a head."""
    values = _merged(ARCHITECTURES[name], SHRUNK[name]) | changes
    config = AutoConfig.for_model(values.pop("model_type"), **values, pad_token_id=0)
    auto = AutoModelForMaskedLM if name in ENCODERS else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config)
    model.save_pretrained(folder)


def spec_of(suite: str, cell: str) -> RunSpec:
    """One run of a suite."""
    return next(plan(load_suite(suite), only=cell))


def cut(spec: RunSpec, folder: Path, **training: Any) -> RunSpec:
    """The run on the tiny model: the adapter and the training as they are but for what follows from
    the size, and for what is given."""
    known, changes = spec.adapter.hyperparameters, {"learning_rate": 1e-2}
    if "rank" in known:
        changes["rank"] = min(known["rank"], WIDTH // 2)
    if "target_rank" in known:
        changes |= {"init_warmup": 0, "final_warmup": 1}
    settings = spec.training.model_dump() | {"learning_rate": 1e-2} | training
    small = {"model": Model(name=str(folder)), "training": Training.model_validate(settings)}
    return spec.model_copy(update=small | {"adapter": spec.adapter.model_copy(update=changes)})
