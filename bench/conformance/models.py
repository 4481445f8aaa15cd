"""Tiny random models, one per architecture, and steps of training on them as the shared loop makes them."""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from rankbench.adapters import Adapter
from rankbench.tasks.scoring import evaluating

_SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
# An adapter's own dropout is tried; the model's would only hide in its noise what so few steps learn.
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
_CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {**_SMALL, **_NO_DROPOUT, "intermediate_size": 48},
    "deberta-v2": {
        **_SMALL,
        **_NO_DROPOUT,
        "intermediate_size": 48,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "llama": {**_SMALL, "intermediate_size": 48, "num_key_value_heads": 2},
    "gpt2": {
        "vocab_size": 64,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
}
TARGETS = {
    "bert": ["query", "value", "output.dense"],
    "deberta-v2": ["query_proj", "value_proj", "output.dense"],
    "llama": r".*\.(q_proj|v_proj|down_proj)",
    "gpt2": ["c_attn", "mlp.c_fc"],
}
ARCHITECTURES = list(_CONFIGS)


def tiny_model(
    architecture: str, *, head: str | None = None, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """The same random weights at every call. `head` "classes" (three) or "causal"; by default what
    the architecture is used for."""
    head = head or ("classes" if architecture in ("bert", "deberta-v2") else "causal")
    return copy.deepcopy(_tiny_model(architecture, head)).to(dtype)


@functools.cache
def _tiny_model(architecture: str, head: str) -> nn.Module:
    """Built once: a copy costs half of it."""
    config = AutoConfig.for_model(architecture, **_CONFIGS[architecture], pad_token_id=0, num_labels=3)
    auto: Any = AutoModelForSequenceClassification if head == "classes" else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = auto.from_config(config)
    return model.eval()


def tiny_batch(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Eight sequences of seven tokens with labels of the model's kind."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 64, (8, 7), generator=generator)
    classes = type(model).__name__.endswith("SequenceClassification")
    labels = torch.randint(0, 3, (8,), generator=generator) if classes else tokens
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    return {key: tensor.to(next(model.parameters()).device) for key, tensor in batch.items()}


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def optimizer_for(model: nn.Module) -> AdamW:
    """Of what is trainable."""
    return AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)


def train(
    adapter: Adapter,
    model: nn.Module,
    optimizer: AdamW,
    steps: range,
    *,
    batches: int | None = None,
    bfloat16: bool = False,
) -> list[float]:
    """The losses of these steps, each on a batch of its own or on so many in turn, in float32 or under
    autocast. The last gradients stay, and so does training mode."""
    losses = []
    model.train()
    for step in steps:
        optimizer.zero_grad()
        with torch.autocast(next(model.parameters()).device.type, dtype=torch.bfloat16, enabled=bfloat16):
            loss = model(**tiny_batch(model, step % batches if batches else step)).loss
        (loss + adapter.penalty()).backward()
        adapter.before_step(optimizer, step)
        optimizer.step()
        adapter.after_step(optimizer, step)
        losses.append(loss.item())
    return losses


def outputs(model: nn.Module) -> Tensor:
    """Logits of one batch, as a run scores: in evaluation mode, with mode and generators put back."""
    with evaluating(model):
        logits: Tensor = model(**tiny_batch(model)).logits
    return logits


def mean_loss(model: nn.Module, *, batches: int, bfloat16: bool = False) -> float:
    """Of the batches that `train` takes in turn, in evaluation mode: what is drawn in training would hide
    whether so few steps learn."""
    with (
        evaluating(model) as device,
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16),
    ):
        return sum(model(**tiny_batch(model, batch)).loss.item() for batch in range(batches)) / batches
