"""What the loss of long answers takes, whole and in chunks: `python -m tests.long_answers`, on Linux.

4 answers over 128,256 words, by a model so narrow that its logits are nearly all that it makes. Each is
measured in a process of its own: its peak of resident memory above what it had before.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rankbench.tasks.causal import loss

VOCABULARY, ANSWERS = 128_256, 4
CASES = [(512, True), (512, False), (2048, False)]
"""Tokens of an answer, and whether its logits are whole."""


def resident(key: str) -> int:
    """MiB of this process, by its status's `key`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) // 1024


def measure(tokens: int, whole: bool) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=4096, **small))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("q_proj" in name)
    ids = torch.randint(0, VOCABULARY, (ANSWERS, tokens))
    loss.LARGE = math.inf if whole else 0
    before, started = resident("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")
    loss.answer_loss(model, {"input_ids": ids, "labels": ids}).backward()
    seconds, peak = time.perf_counter() - started, resident("VmHWM") - before
    return f"| {tokens} | {'whole' if whole else 'in chunks'} | {peak} MiB | {seconds:.1f} s |"


if __name__ == "__main__":
    for case in CASES:
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            print(fresh.apply(measure, case), flush=True)
