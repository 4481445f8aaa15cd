"""What a report says of a card's memory and energy, and of contenders that shared one model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rankbench.bench.records import RecordError
from tests.made_records import overhead_record, run_record, save
from tests.reports.test_reports import report, tables

SECONDS = {"lora": [[0.1] * 4] * 3, "scalora": [[0.2] * 4] * 3}
RESERVED = {"lora": [1000.0] * 3, "scalora": [1500.0] * 3}
JOULES = {"lora": [40.0, 40.0, 40.0], "scalora": [50.0, 60.0, 72.0]}


def rows(folder: Path, **changes: Any) -> list[dict[str, str]]:
    peaks = {"lora": [800.0] * 3, "scalora": [880.0] * 3}
    save(folder, overhead_record(SECONDS, peak_resident=peaks, **changes))
    return tables(report(folder), "### encoder: tiny")


def test_what_a_card_tells_is_a_column_where_it_is_told(tmp_path: Path) -> None:
    """Joules 50, 60, 72 over 40: 1.5 in the geometric mean."""
    card = {"device": "NVIDIA H100"}
    lora, scalora = rows(tmp_path, peak_reserved=RESERVED, joules=JOULES, provenance=card)
    assert (lora["reserved MiB"], scalora["reserved MiB"]) == ("1,000", "1,500")
    assert (lora["J per step"], lora["J ÷ lora"]) == ("40.0", "1.000")
    assert scalora["J per step"].startswith("60.0 [")
    assert scalora["J ÷ lora"].startswith("1.500 [")
    text = report(tmp_path)
    assert "Here peak memory is what PyTorch's allocator had handed out" in text
    assert "Reserved is what that allocator had taken" in text
    assert "Energy is what NVML tells of the whole card" in text
    assert "shared one model" not in text


def test_nothing_is_said_of_a_card_where_there_was_none(tmp_path: Path) -> None:
    before = rows(tmp_path)[0]
    assert not {"reserved MiB", "J per step", "J ÷ lora"} & before.keys()
    text = report(tmp_path)
    assert "reserved" not in text.lower()
    assert "allocator" not in text
    assert "NVML" not in text


def test_peaks_of_a_card_are_called_so_by_records_that_do_not_tell_what_was_reserved(tmp_path: Path) -> None:
    """The first ones: 51 GiB of a model in float32 are no resident memory."""
    rows(tmp_path, provenance={"device": "NVIDIA H100"})
    text = report(tmp_path)
    assert "Here peak memory is what PyTorch's allocator had handed out of the card's memory." in text
    assert "Reserved" not in text


def test_what_runs_held_on_a_card_stands_beside_their_main_memory(tmp_path: Path) -> None:
    for seed, allocated in enumerate((51200.0, 52000.4)):
        memory = {"peak_resident": 1900.0, "peak_allocated": allocated, "peak_reserved": 60000.0}
        save(tmp_path, run_record("movie", "lora", seed, memory=memory))
    heading = "## Time and memory of the runs"
    (row,) = tables(report(tmp_path), heading)
    assert (row["peak MiB"], row["on the card, MiB"]) == ("1,900", "52,000")
    save(tmp_path, run_record("movie", "dora", 0))
    assert [each["on the card, MiB"] for each in tables(report(tmp_path), heading)] == ["52,000", "–"]


def test_a_baseline_that_was_not_measured_has_no_ratio_of_energy(tmp_path: Path) -> None:
    found = rows(tmp_path, joules=JOULES, baseline="full")
    assert "J per step" in found[0]
    assert "J ÷ full" not in found[0]


def test_a_shared_model_is_told(tmp_path: Path) -> None:
    rows(tmp_path, config={"blocks": 2, "rounds": 4})
    text = report(tmp_path)
    assert "all contenders shared one model, loaded once a process" in text
    assert "took 2 rounds in a row after a warm-up" in text
    assert "then the next, 2 times over" in text


@pytest.mark.parametrize("held", ["bfloat16", "nf4", None])
def test_what_the_frozen_weights_were_held_in_is_told_unless_it_is_float32(
    tmp_path: Path, held: str | None
) -> None:
    rows(tmp_path, config={"model": {"name": "tiny"} | ({"weights": held} if held else {})})
    assert (f"The frozen weights are held in {held}." in report(tmp_path)) == bool(held)
    assert ("The frozen weights are held" in report(tmp_path)) == bool(held)


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("peak_reserved", {"lora": [1.0, 1.0], "scalora": [1.0]}, "reserved peaks of unequal numbers"),
        ("joules", {"lora": [1.0], "scalora": [1.0, 2.0]}, "joules of unequal numbers"),
        ("joules", {"lora": [0.0], "scalora": [1.0]}, "greater than 0"),
    ],
)
def test_a_broken_record_is_refused(tmp_path: Path, key: str, value: dict[str, Any], fault: str) -> None:
    save(tmp_path, overhead_record(SECONDS, peak_resident={}))
    path = tmp_path / "overhead" / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RecordError, match=fault):
        report(tmp_path)
