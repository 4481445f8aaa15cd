"""The overhead measurement: every contender in every round, memory of each, parameters of each."""

from __future__ import annotations

import pytest

from bench.config import Suite
from bench.overhead import FLOOR, measure_overhead
from bench.train import Interrupted

ADAPTERS = {"lora": {"rank": 2}, "scalora": {"rank": 2}, "lora2": {"rank": 4, "width": 2}, "full": None}


def suite(head: str) -> Suite:
    bert = head == "sequence"
    block = {
        "model": "tiny-bert" if bert else "tiny-llama",
        "targets": ["query", "value"] if bert else ["q_proj", "v_proj"],
        "head": head,
        "batch": 2,
        "length": 8,
        "rounds": 3,
        "adapters": ADAPTERS,
    }
    return Suite.model_validate({"name": "x", "experiments": {}, "overhead": {"tiny": block}})


def test_half_a_measurement_is_none():
    with pytest.raises(Interrupted):
        measure_overhead(suite("sequence"), "tiny", lambda text: None, stopped=lambda: True)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["sequence", "causal"])
def test_every_contender_is_measured_in_every_round(head):
    record = measure_overhead(suite(head), "tiny", lambda text: None)
    labels = {FLOOR, *ADAPTERS}
    assert record.seconds.keys() == record.peak_resident.keys() == record.parameters.keys() == labels
    assert all(len(rounds) == 3 and min(rounds) > 0 for rounds in record.seconds.values())
    assert all(peak > 50 for peak in record.peak_resident.values())
    assert record.parameters[FLOOR] == 0
    assert record.parameters["lora"] == record.parameters["scalora"] == 2 * 2 * 2 * (32 + 32)
