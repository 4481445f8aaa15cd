"""No step of ours casts or copies a frozen weight; those of PEFT's that do so are known. Counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rankbench import adapters
from rankbench.bench import models
from rankbench.bench.suite import Model
from rankbench.tasks import Head
from tests import weight_bytes
from tests.weight_bytes import frozen, step

pytest.importorskip("bitsandbytes")
UNPACKING = {"bitsandbytes::dequantize_4bit", "bitsandbytes::gemm_4bit"}
COPYING = {
    "dora": {"aten::_to_copy", "aten::add"},
    "hira": {"aten::mul"},
    "hra": {"aten::_to_copy", "aten::mm", "aten::neg", "aten::add"},
    "shira": {"aten::clone"},
    "scalora-svd": {"aten::add_", "aten::add", "aten::_to_copy"},
}
"""Layers that compute with the whole weight, however it is held (PEFT's, and the curve that ScaLoRA is drawn
beside): adapter -> by which operations."""


def made(name: str) -> adapters.Adapter:
    known = {"total_steps": 20} if "total_steps" in adapters.hyperparameters(name) else {}
    return adapters.create(name, **adapters.kind(name).example, **known)


def traffic(name: str, weights: str, precision: str) -> weight_bytes.Traffic:
    model = models.load_headed(Model(name="tiny-llama", weights=weights), Head("causal"), 0)
    adapter = made(name)
    adapter.attach(model, weight_bytes.TARGETS, generator=torch.Generator().manual_seed(0))
    return step(adapter, precision, frozen(model))


CASES = [("lora", "bfloat16", "no")] + [
    (name, weights, precision)
    for name in adapters.BUILT_IN
    for weights, precision in (("bfloat16", "bf16"), ("nf4", "no"))
    if not made(name).why_not_over(weights)
]


@pytest.mark.parametrize(("name", "weights", "precision"), CASES)
def test_a_step_copies_no_frozen_weight(name, weights, precision):
    """Nor does the backward pass hold one. What is in four bits is unpacked, and let go of at once; a fold
    puts some pairs together (`adapters.pairs`)."""
    found = traffic(name, weights, precision)
    assert found.read > 0
    copying = set(found.passes) - (UNPACKING if weights == "nf4" else set())
    assert copying == COPYING.get(name, set())
    assert not found.kept or name in COPYING
    assert (found.copied == found.passes) is not adapters.kind(name).moves_base


def test_autocast_over_float32_does_copy_and_hold_them():
    found = traffic("lora", "float32", "bf16")
    assert set(found.copied) == {"aten::_to_copy"}
    assert sum(found.kept.values()) == found.copied.total() > 0


def test_the_table_of_the_docs_is_what_is_counted():
    text = Path(__file__).parents[2].joinpath("docs", "gpu.md").read_text(encoding="utf-8")
    assert weight_bytes.table() in text
