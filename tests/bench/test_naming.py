"""Which run a word on the command line names."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankbench.bench.cli.naming import cells, find_run
from rankbench.bench.records import FailureRecord, Folders, RecordError, write_record
from tests.made_records import overhead_record, run_record, save

PLACE = {"suite": "mine", "task": "movie", "adapter": "full", "seed": 0, "fingerprint": "", "config": {}}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two suites: both have LoRA's run, `mine` has a failed one of its own, `laptop` a second seed."""
    monkeypatch.chdir(tmp_path)
    for suite in ("laptop", "mine"):
        folders = Folders(Path("results") / suite)
        write_record(folders.record("movie--lora--s0"), run_record("movie", "lora", 0, suite=suite))
        save(folders.root, overhead_record({"lora": [[0.1]]}))
    write_record(Folders(Path("results/laptop")).record("movie--lora--s1"), run_record("movie", "lora", 1))
    failure = FailureRecord.model_validate({**PLACE, "reason": "loss is nan", "provenance": {}})
    folders = Folders(Path("results/mine"))
    write_record(folders.failure("movie--full--s0"), failure)
    write_record(folders.failed_overhead("encoder"), failure)
    return Path("results")


@pytest.mark.parametrize(
    ("word", "suite"),
    [
        ("movie--lora--s1", "laptop"),
        ("mine/movie--lora--s0", "mine"),
        ("results/mine/movie--lora--s0", "mine"),
        ("results/mine/runs/movie--lora--s0.json", "mine"),
        ("mine/failed/movie--full--s0.json", "mine"),
        ("movie--full--s0", "mine"),
    ],
)
def test_a_run_is_found_by_each_of_its_names(word: str, suite: str, results: Path) -> None:
    found = find_run(word, results)
    assert found.folders.root == results / suite
    assert found.cell == Path(word).name.removesuffix(".json")


def test_a_folder_of_one_suite_may_be_the_place(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run("movie--lora--s0", results / "mine").folders.root == results / "mine"
    monkeypatch.chdir(results / "mine")
    assert find_run("runs/movie--lora--s0.json", "results").result().suite == "mine"


def test_measurements_are_no_runs(results: Path) -> None:
    assert cells(results / "mine") == ["movie--full--s0", "movie--lora--s0"]


def test_a_failed_run_has_a_failure_and_no_result(results: Path) -> None:
    found = find_run("movie--full--s0", results)
    assert found.record is None
    assert found.failure is not None
    assert found.failure.reason == "loss is nan"
    with pytest.raises(RecordError, match="movie--full--s0 has no result: loss is nan"):
        found.result()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("movie--lora--s0", "laptop and mine have a run 'movie--lora--s0'; say which, as in laptop/movie"),
        ("movie--lora--s2", "no run 'movie--lora--s2' under results; did you mean laptop/movie--lora--s1 or"),
        ("mine/movie--lorra--s0", "in mine; did you mean mine/movie--lora--s0 or mine/movie--full--s0?"),
        ("mine/xyz", "no run 'xyz' in mine; one of 2 is mine/movie--full--s0"),
        ("", "no run '' under results; one of 4 is laptop/movie--lora--s0"),
        ("mien/movie--lora--s0", "no folder of results 'mien'; did you mean 'mine'?"),
        ("mine/overhead--encoder", "no run 'overhead--encoder' in mine"),
    ],
)
def test_mistakes_name_the_way_out(word: str, message: str, results: Path) -> None:
    with pytest.raises(RecordError) as told:
        find_run(word, results)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_where_nothing_has_ended(results: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"no run 'movie--lora--s0' under .*empty; none has ended there"):
        find_run("movie--lora--s0", tmp_path / "empty")
