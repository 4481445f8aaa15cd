"""What a run answered is written small and read back as it was."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from rankbench.bench.records.predictions import packed

ITEMS = 512
SINGLE = np.random.default_rng(0).normal(size=(ITEMS, 4)).astype(np.float32).astype(np.float64)
FRAME = pd.DataFrame(
    {
        "item": [f"text {index}" for index in range(ITEMS)],
        "target": np.arange(ITEMS) / 10,  # tenths: no float holds them, and a double holds them better
        "prediction": np.arange(ITEMS) % 3,
        "right": np.arange(ITEMS) % 2 == 0,
        "score": SINGLE[:, 0],
        "logits": SINGLE.tolist(),
    }
)


def written() -> pa.Table:
    return parquet.read_table(io.BytesIO(packed(FRAME)))


def test_every_value_is_read_back_as_it_was():
    read = written().to_pandas()
    assert list(read) == list(FRAME)
    for name in FRAME:
        assert np.array_equal(read[name].tolist(), FRAME[name].tolist()), name


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("score", pa.float32()),
        ("target", pa.float64()),
        ("prediction", pa.int64()),
        ("right", pa.bool_()),
        ("item", pa.string()),
    ],
)
def test_single_precision_is_for_what_it_holds(column, kind):
    assert written().schema.field(column).type == kind


def test_lists_are_of_single_precision_too():
    assert written().schema.field("logits").type.value_type == pa.float32()


def test_it_takes_less_than_half_of_what_pandas_writes():
    assert len(packed(FRAME)) < len(FRAME.to_parquet(index=False)) / 2


def test_no_items_and_unknown_numbers_are_written():
    empty = pd.DataFrame({"item": pd.Series([], dtype=str), "score": pd.Series([], dtype=float)})
    assert len(parquet.read_table(io.BytesIO(packed(empty)))) == 0
    unknown = pd.DataFrame({"item": ["a", "b"], "score": [float("nan"), 0.5]})
    read = pd.read_parquet(io.BytesIO(packed(unknown)))
    assert np.array_equal(read["score"], unknown["score"], equal_nan=True)
