"""The regression gate on costs: what they are divided by, and by which spread and margin they are judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench.reports.compare.judge import compare
from rankbench.reports.compare.page import page
from rankbench.reports.frames import Suite, load
from tests.made_records import overhead_record, save
from tests.reports.test_compare import call, write


def processes(seconds: float, spread: float = 0.01) -> list[list[float]]:
    """Five, of two rounds each."""
    return [[seconds * (1 + spread * place)] * 2 for place in (-1, 0.5, 0, 1, -0.5)]


@pytest.mark.parametrize(("slower", "larger"), [(1.04, 1.03), (1.3, 1.03), (1.04, 1.2)])
def test_a_cost_is_judged_by_its_spread_over_processes(tmp_path: Path, slower: float, larger: float) -> None:
    def suite(name: str, time: float, peak: float) -> Suite:
        seconds = {"lora": processes(1.0), "scalora": processes(1.2 * time, 0.012)}
        peaks = {"lora": [800.0, 802.0, 799.0, 800.0, 801.0]}
        peaks["scalora"] = [peak * own for own in (881.0, 880.0, 880.0, 879.0, 882.0)]
        return load(save(tmp_path / name, overhead_record(seconds, peak_resident=peaks)))

    found = compare(suite("before", 1.0, 1.0), suite("after", slower, larger))
    bad = {row.what for row in found.rows if row.fails}
    expected = {"step time ÷ lora ↓"} if slower > 1.15 else set()
    assert bad == (expected | ({"peak memory ÷ lora ↓"} if larger > 1.1 else set()))


def test_costs_of_one_process_are_not_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As records once were: a hundred rounds are one replicate. Nothing is passed unseen."""
    for name, slower in (("before", 1.0), ("after", 1.01)):
        rounds = {"lora": [1.0, 1.01] * 50, "scalora": [1.2 * slower, 1.21 * slower] * 50}
        peaks = {"lora": 800.0, "scalora": 880.0 * slower}
        save(tmp_path / name, overhead_record(rounds, peak_resident=peaks))
    assert call(tmp_path / "before", tmp_path / "after") == 1
    out = capsys.readouterr().out
    assert "**Not judged: step time and peak memory**" in out
    assert "one process, of a cost: its rounds are no replicates" in out


def test_another_machine_widens_the_margins_of_costs(tmp_path: Path) -> None:
    def suite(name: str, scalora: float, processor: str) -> Suite:
        seconds = {"lora": processes(1.0), "scalora": processes(scalora, 0.012)}
        peaks = {key: [800.0, 801.0] for key in seconds}
        record = overhead_record(seconds, peak_resident=peaks, provenance={"processor": processor})
        return load(save(tmp_path / name, record))

    before = suite("before", 1.2, "one")
    assert compare(before, suite("same", 1.45, "one")).regressed
    found = compare(before, suite("other", 1.45, "two"))
    assert not found.regressed
    assert "processor one → two" in page(found, "before", "other")


@pytest.mark.parametrize(
    ("runs", "measured", "told"), [("two", "one", "runs"), ("one", "two", "measurements")]
)
def test_only_where_a_cost_was_measured_widens_its_margin(
    tmp_path: Path, runs: str, measured: str, told: str
) -> None:
    def suite(name: str, scalora: float, of_runs: str, of_costs: str) -> Suite:
        seconds = {"lora": processes(1.0), "scalora": processes(scalora, 0.012)}
        write(tmp_path / name, provenance={"threads": of_runs})
        return load(save(tmp_path / name, overhead_record(seconds, provenance={"threads": of_costs})))

    before = suite("before", 1.2, "one", "one")
    found = compare(before, suite("after", 1.45, runs, measured))
    assert found.regressed == (measured == "one")
    assert found.surroundings == {f"threads of {told}": ("one", "two")}


def test_two_changes_that_cancel_are_told(tmp_path: Path) -> None:
    """The measurement took the runs' threads, and they its."""

    def suite(name: str, of_runs: int, of_costs: int) -> Suite:
        costs = overhead_record({"lora": processes(1.0)}, provenance={"threads": of_costs})
        write(tmp_path / name, provenance={"threads": of_runs, "commit": "ab"})
        return load(save(tmp_path / name, costs))

    found = compare(suite("before", 1, 2), suite("after", 2, 1))
    told = {"threads of runs": ("1", "2"), "threads of measurements": ("2", "1")}
    assert found.surroundings == told


def test_a_measurement_without_the_baseline_is_set_beside_the_frozen_model(tmp_path: Path) -> None:
    def suite(name: str, scalora: float) -> Suite:
        seconds = {"floor": processes(1.0), "scalora": processes(scalora, 0.012)}
        return load(save(tmp_path / name, overhead_record(seconds)))

    before = suite("before", 1.2)
    assert not compare(before, suite("alike", 1.21)).regressed
    row = compare(before, suite("slower", 2.4)).rows[0]
    assert (row.verdict, row.what) == ("regressed", "step time ÷ floor ↓")


def test_what_has_nothing_beside_it_is_not_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seconds in (("before", 1.0), ("after", 5.0)):
        save(tmp_path / name, overhead_record({"scalora": processes(seconds)}))
    assert call(tmp_path / "before", tmp_path / "after") == 1
    assert "**Not judged: step time**." in capsys.readouterr().out


def test_other_settings_of_a_contender_are_told(tmp_path: Path) -> None:
    def suite(name: str, rank: int) -> Suite:
        config = {"batch": 4, "adapters": {"lora": {"rank": 4}, "rslora": {"rank": rank}}}
        seconds = {label: processes(1.0) for label in ("lora", "rslora")}
        return load(save(tmp_path / name, overhead_record(seconds, config=config)))

    found = compare(suite("before", 64), suite("after", 2))
    assert found.paired.reconfigured == ["encoder: rslora (rank 64 → 2)"]
