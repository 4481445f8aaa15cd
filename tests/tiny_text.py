"""The byte-level tokenizer and tiny models of the conformance rules, one more model, and a local mirror."""

from pathlib import Path

import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel

from rankbench.bench.conformance.texts import bert, encoder_tokenizer, llama, tokenizer

__all__ = ["SHARED_HUB", "bert", "encoder_tokenizer", "gpt2", "llama", "tokenizer", "write_mirror"]

SHARED_HUB = Path(__file__).parents[2] / "shared" / "hub"


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=260, n_positions=64, n_embd=32, n_layer=2, n_head=2))


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
