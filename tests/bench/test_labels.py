"""Labels made from grids, and records that have nothing else."""

from __future__ import annotations

import pytest

from rankbench.bench.records.labels import label, taken_apart
from tests.made_records import run_record

POINTS = [
    {},
    {"learning_rate": 1e-3},
    {"smoothness": "auto", "learning_rate": 2.5e-05},
    {"rank": 8, "target_rank": 8, "carry_moments": False},
    {"target_rank": 4, "learning_rate": 1e7},
]


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("method", ["lora", "lora-r16", "mine-rank"])
def test_a_label_is_taken_apart_as_it_was_made(method, point):
    given = {"rank": 8, "target_rank": 4, "alpha": 8, "learning_rate": 1e-3} | point
    assert taken_apart(label(method, point), given) == (method, point)


def test_old_records_get_method_rank_and_point_from_their_configuration():
    config = {"learning_rate": 0.002, "adapter": {"name": "scalora", "rank": 4, "smoothness": 30}}
    old = run_record("movie", "mine-learning-rate0.002-smoothness30", 0, config=config)
    assert (old.method, old.rank, old.point) == ("mine", 4, {"learning_rate": 0.002, "smoothness": 30})
    peft = run_record("movie", "p", 0, config={"adapter": {"name": "peft", "config": {"r": 16}}})
    assert (peft.method, peft.rank, peft.point) == ("p", 16, {})
