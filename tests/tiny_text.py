"""The byte-level tokenizer and tiny models of the conformance rules, one more model, and a local mirror."""

from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)

from rankbench.bench.conformance.texts import bert, encoder_tokenizer, llama, tokenizer

__all__ = ["END_READERS", "SHARED_HUB", "bert", "encoder_tokenizer", "end_reader", "gpt2", "llama"]
__all__ += ["tokenizer", "write_end_reader", "write_mirror"]

SHARED_HUB = Path(__file__).parents[2] / "shared" / "hub"


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=260, n_positions=64, n_embd=32, n_layer=2, n_head=2))


END_READERS = {
    "bart": {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    },
    "t5": {"d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0},
}
"""Shapes of models that classify a text by what stands at its last end token."""


def end_reader(kind: str, end: str) -> PreTrainedModel:
    """One of them, whose end token is this one of `encoder_tokenizer`'s."""
    shape = END_READERS[kind] | {"vocab_size": 260, "d_model": 8, "pad_token_id": 0, "num_labels": 2}
    ids = {"eos_token_id": encoder_tokenizer().convert_tokens_to_ids(end)}
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **shape, **ids))


def write_end_reader(kind: str, folder: Path) -> None:
    """It and its tokenizer, as a user has them in a folder."""
    end_reader(kind, "<sep>").save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)


def write_mirror(root: Path, repo: str, config: str, splits: dict[str, Dataset]) -> Path:
    """A mirror with one data set, laid out as the hub is."""
    folder = root / repo
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, rows in splits.items():
        (folder / config).mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
        lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return root
