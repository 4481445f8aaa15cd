"""Folders of results put together: checked, each run once, all or nothing, and a report over the whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rankbench.bench.cli import main
from rankbench.bench.records import (
    FailureRecord,
    Folders,
    OverheadRecord,
    RunRecord,
    read_record,
    write_record,
)
from rankbench.bench.records import merge as merging
from rankbench.bench.records.files import RecordError, claim
from rankbench.bench.records.predictions import packed
from tests.made_records import accuracy, overhead_record, run_record

ITEMS = 10
FORGOTTEN = {"kind": "drift", "value": 0.9, "items": 32, "text": "ab"}
INTEL = {"provenance": {"processor": "Intel", "device": "cpu", "threads": 2}}


def put(folder: Path, adapter: str, seed: int, right: int = 8, **changes: Any) -> Path:
    """A run with so many right answers, and its predictions."""
    folders, cell = Folders(folder), f"movie--{adapter}--s{seed}"
    fields = {"fingerprint": f"{adapter} {seed}", "predictions": f"{cell}.parquet"}
    record = run_record("movie", adapter, seed, metrics=accuracy(right / ITEMS), **(fields | changes))
    write_record(folders.record(cell), record)
    score = [float(item < right) for item in range(ITEMS)]
    frame = pd.DataFrame({"item": [str(item) for item in range(ITEMS)], "score": score})
    folders.predictions(cell).write_bytes(packed(frame))
    return folders.record(cell)


def failed(folder: Path, adapter: str, seed: int) -> Path:
    path = Folders(folder).failure(f"movie--{adapter}--s{seed}")
    fields = {"suite": "made", "task": "movie", "adapter": adapter, "seed": seed, "fingerprint": ""}
    write_record(path, FailureRecord(**fields, reason="full disk", kind="disk", config={}, provenance={}))
    return path


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def merge(*folders: Path, into: Path, words: tuple[str, ...] = ()) -> int:
    return main(["merge", *map(str, folders), "--into", str(into), *words])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err.strip()
    assert error.startswith("rankbench: ")
    assert "\n" not in error
    return error


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path, Path]:
    """One and two have a run in common, and into is not there yet."""
    one, other = tmp_path / "one", tmp_path / "other"
    for seed in (0, 1):
        put(one, "lora", seed)
    put(other, "lora", 1)
    put(other, "scalora", 0, right=9, **INTEL)
    return one, other, tmp_path / "all"


def test_every_run_is_there_once_as_it_was_recorded(two, capsys):
    one, other, into = two
    before = files(one), files(other)
    assert merge(one, other, into=into) == 0
    assert files(into) == {**before[1], **before[0]}
    assert (files(one), files(other)) == before
    assert read_record(into / "runs/movie--scalora--s0.json", RunRecord).provenance == INTEL["provenance"]
    assert "3 runs, 0 failures, 0 measurements; 3 of them new" in capsys.readouterr().out
    stats = {path: path.stat().st_mtime_ns for path in into.rglob("*")}
    assert merge(one, other, into=into) == 0
    assert {path: path.stat().st_mtime_ns for path in into.rglob("*")} == stats
    assert "3 runs, 0 failures, 0 measurements; 0 of them new" in capsys.readouterr().out
    assert main(["report", str(into)]) == 0
    assert "scalora" in (into / "report.md").read_text(encoding="utf-8")


def test_folders_of_several_suites_keep_a_folder_each(tmp_path):
    for who, adapter in (("ann", "lora"), ("bob", "scalora")):
        for suite in ("laptop", "smoke"):
            put(tmp_path / who / suite, adapter, 0, suite=suite)
    (tmp_path / "ann/published").mkdir()
    assert merge(tmp_path / "ann", tmp_path / "bob", into=tmp_path / "all") == 0
    held = {
        f"{suite}/runs/movie--{adapter}--s0.json"
        for suite in ("laptop", "smoke")
        for adapter in ("lora", "scalora")
    }
    assert {name for name in files(tmp_path / "all") if name.endswith(".json")} == held


@pytest.mark.parametrize(
    "broken", ["half a record", "predictions gone", "predictions of another run", "no Parquet"]
)
def test_what_is_corrupt_leaves_the_target_as_it_was(broken, two, capsys):
    one, other, into = two
    put(into, "full", 0)
    path = other / "runs/movie--scalora--s0.json"
    if broken == "half a record":
        path.write_bytes(path.read_bytes()[:200])
    elif broken == "predictions gone":
        path.with_suffix(".parquet").unlink()
    elif broken == "no Parquet":
        path.with_suffix(".parquet").write_bytes(b"PAR1")
    else:
        shutil.copyfile(one / "runs/movie--lora--s0.parquet", path.with_suffix(".parquet"))
    before = files(into)
    assert merge(one, other, into=into) == 2
    assert "movie--scalora--s0" in refusal(capsys)
    assert files(into) == before


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fingerprint": "edited", "identity": {"seed": 1}}, "are different runs"),
        ({"right": 7}, "one run with different results (accuracy 0.8 and 0.7)"),
        ({"forgetting": FORGOTTEN}, "one run with different results"),
        ({"baseline": "scalora"}, "is of the baseline lora"),
        ({"suite": "another"}, "is of the suite made"),
    ],
)
def test_what_cannot_stand_together_is_refused_with_both_paths(changes, told, two, capsys):
    one, other, into = two
    second = put(other, "lora", 1, **changes)
    assert merge(one, other, into=into) == 2
    error = refusal(capsys)
    assert told in error
    assert str(second) in error
    assert f"{one}/runs/movie--lora--s" in error
    assert not into.exists()


def test_the_first_of_two_results_is_kept_where_that_is_asked_for(two, capsys):
    one, other, into = two
    second = put(other, "lora", 1, right=7)
    assert merge(one, other, into=into, words=("--keep", "first")) == 0
    assert (into / "runs/movie--lora--s1.json").read_bytes() == (
        one / "runs/movie--lora--s1.json"
    ).read_bytes()
    assert f"{second} are one run with different results" in capsys.readouterr().out
    assert merge(other, one, into=into, words=("--keep", "first")) == 0, "what is there is the first"
    assert (into / "runs/movie--lora--s1.json").read_bytes() == (
        one / "runs/movie--lora--s1.json"
    ).read_bytes()


def test_a_run_timed_elsewhere_is_the_same_run(two):
    one, other, into = two
    timings = {"median_step": 9.0, "train": 9.0, "score": 9.0, "total": 9.0}
    put(other, "lora", 1, timings=timings, **INTEL)
    assert merge(one, other, into=into) == 0


def test_a_failure_is_kept_where_the_run_has_no_record(two):
    one, other, into = two
    failed(other, "lora", 0)
    failed(other, "full", 0)
    gone = failed(into, "scalora", 0)
    assert merge(one, other, into=into) == 0
    assert not gone.exists()
    assert [path.name for path in (into / "failed").iterdir()] == ["movie--full--s0.json"]


def test_measurements_of_two_machines_are_not_put_together(two, capsys):
    one, other, into = two
    for folder, seconds in ((one, 1.0), (other, 3.0)):
        record = overhead_record({"lora": [[seconds]], "scalora": [[2 * seconds]]})
        write_record(Folders(folder).overhead("encoder"), record)
    assert merge(one, other, into=into) == 0
    assert f"{other}/overhead/encoder.json is left out" in capsys.readouterr().out
    assert read_record(into / "overhead/encoder.json", OverheadRecord).seconds["lora"] == [[1.0]]


@pytest.mark.parametrize("at", range(6))
def test_a_merge_that_is_killed_is_completed_by_the_same_call(at, two, monkeypatch):
    one, other, into = two
    written = iter(range(6))
    real = merging.write_atomically

    def killed(path: Path, content: bytes) -> None:
        if next(written) == at:
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(merging, "write_atomically", killed)
    assert merge(one, other, into=into) == 130
    for record in into.glob("runs/*.json"):
        assert record.with_suffix(".parquet").exists()
    monkeypatch.undo()
    assert merge(one, other, into=into) == 0
    assert files(into) == {**files(other), **files(one)}


def test_a_run_that_another_process_is_at_is_waited_for(two):
    one, other, into = two
    found = merging.gather([one, other], into, lambda *_: None)
    with claim(Folders(into).claim("movie--scalora--s0")), pytest.raises(RecordError, match="merge again"):
        merging.write(found, into)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["all"], "no results in all"),
        (["one", "all"], "one holds one suite's results, all does not; merge like with like"),
    ],
)
def test_a_folder_without_results_is_named(words, told, two, capsys, monkeypatch):
    monkeypatch.chdir(two[0].parent)
    assert merge(*map(Path, words), into=Path("new")) == 2
    assert told in refusal(capsys)


def test_one_suites_results_are_not_put_beside_folders_of_suites(tmp_path, capsys):
    put(tmp_path / "one" / "mine", "lora", 0)
    before = files(tmp_path)
    for source, into in (("one/mine", "one"), ("one", "one/mine")):
        assert merge(tmp_path / source, into=tmp_path / into) == 2
        assert "mine holds one suite's results, " in refusal(capsys)
    assert files(tmp_path) == before


def test_a_url_is_no_folder(two, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["one", "--into", "s3://bucket/all"], ["s3://bucket/one", "--into", "all"]):
        assert main(["merge", *words]) == 2
        assert "is a URL; results are merged in folders" in refusal(capsys)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "other"}
