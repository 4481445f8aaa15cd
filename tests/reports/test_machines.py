"""Records of several machines in one report: costs stay apart, scores that rounding can move are marked."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench.reports.render.markdown import document
from rankbench.reports.sections import all_sections
from rankbench.reports.study import Study
from tests.made_records import overhead_record, run_record, save

AMD = {"processor": "AMD", "cores": 2, "threads": 2, "device": "cpu"}
INTEL = AMD | {"processor": "Intel"}
H100 = AMD | {"device": "NVIDIA H100"}
A100 = AMD | {"device": "NVIDIA A100"}


def report(folder: Path, *elsewhere: dict[str, object]) -> str:
    """Three seeds of two methods on AMD; of scalora's, the last were made elsewhere, ten times as slow."""
    for seed in range(3):
        save(folder, run_record("movie", "lora", seed, provenance=AMD))
        provenance = dict(enumerate(reversed(elsewhere))).get(2 - seed, AMD)
        slow = 1 if provenance == AMD else 10
        timings = {"median_step": 0.5 * slow, "train": 10.0, "score": 2.0, "total": 12.5}
        save(folder, run_record("movie", "scalora", seed, provenance=provenance, timings=timings))
    return document("made", all_sections(Study.read(folder)))


def rows(report: str, section: str, label: str) -> list[list[str]]:
    """Cells of the section's rows that begin with the label, or have it as the second cell."""
    part = report.split(f'<a id="{section}"></a>')[1].split("<a id=")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"
    ]
    return [row for row in cells if any(cell.startswith(label) for cell in row[:2])]


def test_one_machine_needs_no_word(tmp_path):
    found = report(tmp_path)
    assert "†" not in found
    assert "several machines" not in found
    assert [row[1:4] for row in rows(found, "times", "scalora")] == [["scalora", "3", "500.0"]]


def test_times_of_two_machines_are_rows_of_their_own(tmp_path):
    found = report(tmp_path, INTEL, INTEL)
    assert [row[1:4] for row in rows(found, "times", "scalora")] == [
        ["scalora on AMD, 2 cores, 2 threads", "1", "500.0"],
        ["scalora on Intel, 2 cores, 2 threads", "2", "5,000.0"],
    ]
    assert [row[1:4] for row in rows(found, "times", "lora")] == [["lora", "3", "500.0"]]


def test_no_word_sends_a_reader_to_costs_that_were_not_measured(tmp_path):
    assert "under Overhead" not in report(tmp_path)
    save(tmp_path, overhead_record({"lora": [0.1] * 3, "scalora": [0.2] * 3}))
    assert report(tmp_path).count("under Overhead") == 3, "seconds to a loss, ScaLoRA's figure 3, times"


def test_threads_make_another_machine_of_the_clock_and_not_of_the_scores(tmp_path):
    found = report(tmp_path, AMD | {"threads": 1})
    assert [row[2] for row in rows(found, "times", "scalora")] == ["2", "1"]
    assert "†" not in found


def test_seconds_to_a_loss_are_left_out_where_they_are_of_two_machines(tmp_path):
    own, mixed = report(tmp_path / "one"), report(tmp_path / "two", INTEL)
    assert rows(own, "convergence", "scalora")[0][3] != "–"
    assert rows(mixed, "convergence", "scalora")[0][3] == "–"
    assert rows(mixed, "convergence", "scalora")[0][2] == rows(own, "convergence", "scalora")[0][2], (
        "its steps"
    )
    assert rows(mixed, "convergence", "lora")[0][3] != "–"
    assert "made on several machines, its seconds are left out" in mixed


@pytest.mark.parametrize(("provenance", "named"), [(INTEL, "Intel"), (H100, "NVIDIA H100")])
def test_scores_made_elsewhere_are_marked(provenance, named, tmp_path):
    found = report(tmp_path, provenance)
    [[_, marked]], [[_, plain]] = (rows(found, "leaderboard", label)[:1] for label in ("scalora", "lora"))
    assert marked.endswith("†")
    assert not plain.endswith("†")
    assert f"than most of the task's (movie on {named})" in found


def test_two_kinds_of_gpu_are_told_apart(tmp_path):
    assert "(movie on NVIDIA A100, NVIDIA H100)" in report(tmp_path, H100, A100)
