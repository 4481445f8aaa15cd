"""Ranks, parity, memory and provenance."""

from __future__ import annotations

import sys

import pytest
import torch

import adapters
from bench import measure
from bench.allocator import keep_freed_memory
from tests import golden


@pytest.mark.parametrize("rank", [0, 1, 5, 20])
def test_accumulated_rank_counts_what_is_above_rounding(rank):
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(64, 48, generator=draw)
    update = torch.randn(64, rank, generator=draw) @ torch.randn(rank, 48, generator=draw) * 1e-3
    # The sum rounds in float32: its noise has full rank and must not count.
    assert measure.accumulated_rank((base + update) - base) == rank


def test_the_probe_sees_what_training_adds():
    model = golden.model()
    adapter = adapters.create("lora", rank=2)
    adapter.attach(model, ["0", "3"], heads=["5"], generator=torch.Generator().manual_seed(0))
    probe = measure.RankProbe(adapter)
    assert probe.ranks() == {"0": 0, "3": 0}
    with torch.no_grad():
        adapter.layers["3"].A.copy_(torch.randn(12, 2, generator=torch.Generator().manual_seed(1)))
    assert probe.ranks() == {"0": 0, "3": 2}


def test_merge_parity_counts_flips():
    before = torch.tensor([[0.0, 1.0], [2.0, 1.0], [0.5, 0.4]])
    after = torch.tensor([[0.0, 1.0], [2.25, 1.0], [0.4, 0.5]])
    assert measure.merge_parity(before, after).model_dump() == {
        "largest_logit_difference": 0.25,
        "top1_flips": 1,
        "items": 3,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot reset a process's peak")
def test_the_peak_is_of_the_time_since_the_reset():
    keep_freed_memory()  # as the loop does
    big = torch.ones(40_000_000)
    with_big = measure.peak_memory().peak_resident
    del big
    measure.reset_peak_memory()
    assert measure.peak_memory().peak_resident < with_big - 100


def test_provenance_says_what_ran_where():
    seen = measure.provenance(data_sha256="abc")
    assert seen["packages"]["torch"] == torch.__version__
    assert seen["threads"] == torch.get_num_threads()
    assert seen["data_sha256"] == "abc"
    assert {"commit", "dirty", "python", "platform", "device"} <= seen.keys()
