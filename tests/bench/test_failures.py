"""Whatever goes wrong inside a run is recorded with its cause, and the other runs go on."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
import yaml

from rankbench import adapters
from rankbench.bench.cli import main
from rankbench.bench.records import FailureRecord, RecordError, read_record, write_record
from rankbench.bench.run.failures import Failure, Interrupted, RunFailed, attempt
from rankbench.tasks import TaskError
from tests.bench.tiny_suite import TINY

EMPTY = "the train split is empty: its 3 rows are in the selection slice"


def raised(error: BaseException) -> Failure:
    def work():
        raise error

    found = attempt(work)
    assert isinstance(found, Failure)
    return found


def disk_full() -> RecordError:
    error = RecordError("cannot write run.pt: No space left on device")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
            "memory",
            "lower batch_size",
        ),
        (MemoryError(), "memory", "out of memory: MemoryError; lower batch_size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "memory",
            "out of memory",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory", "lower batch_size"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk", "free space"),
        (disk_full(), "disk", "cannot write run.pt"),
        (torch.linalg.LinAlgError("svd did not converge"), "error", "LinAlgError: svd did not converge"),
        (ValueError("\n\n"), "error", "ValueError"),
        (AssertionError(), "error", "AssertionError"),
        (SystemExit(3), "error", "SystemExit: 3"),
        (BaseException("a panic in Rust"), "error", "a panic in Rust"),
        (ConnectionError("no route"), "environment", "ConnectionError: no route"),
        (ModuleNotFoundError("No module named 'x'"), "environment", "No module named 'x'"),
        (TaskError("the split\nis empty"), "refused", "the split is empty"),
        (RunFailed("the loss is nan", 7), "diverged", "the loss is nan"),
    ],
)
def test_every_cause_has_a_kind_and_one_line(error, kind, reason):
    failure = raised(error)
    assert failure.kind == kind
    assert reason in failure.reason
    assert len(failure.reason.splitlines()) == 1
    assert type(error).__name__ in failure.traceback


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("nothing to say")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Mute(), "Mute: <exception str() failed>"),
        (ValueError("no \udcff.json"), r"ValueError: no \udcff.json"),
    ],
)
def test_a_message_that_cannot_be_told_or_written_is_recorded_all_the_same(error, reason, tmp_path):
    failure = raised(error)
    assert failure.reason == reason
    blank = {"suite": "s", "task": "t", "fingerprint": "", "config": {}}
    write_record(tmp_path / "failed.json", FailureRecord(**blank, **vars(failure)))
    assert read_record(tmp_path / "failed.json", FailureRecord).reason == reason


@pytest.mark.parametrize("error", [Interrupted(), KeyboardInterrupt()])
def test_a_stop_is_no_failure(error):
    with pytest.raises(type(error)):
        raised(error)


def test_a_failure_keeps_nothing_of_the_run_alive():
    import weakref

    class Model:
        pass

    seen = []

    def work():
        model = Model()
        seen.append(weakref.ref(model))
        raise ValueError(f"{model} broke")

    assert isinstance(attempt(work), Failure)
    assert seen[0]() is None


def failed(tmp_path: Path) -> list[FailureRecord]:
    return [read_record(path, FailureRecord) for path in (tmp_path / "results/mine/failed").glob("*.json")]


def break_scalora(monkeypatch, error: BaseException, method: str) -> list[int]:
    calls: list[int] = []

    def broken(*_, **__):
        calls.append(1)
        raise error

    monkeypatch.setattr(type(adapters.create("scalora")), method, broken)
    return calls


@pytest.mark.parametrize("method", ["before_step", "merge", "diagnostics"])
def test_an_error_anywhere_in_a_run_is_its_own(method, run, tmp_path, monkeypatch, capsys):
    calls = break_scalora(monkeypatch, torch.linalg.LinAlgError("svd did not converge"), method)
    assert run() == 1
    seen = capsys.readouterr()
    assert "runs: 1 done, 0 there already, 1 failed" in seen.out
    assert "tiny--scalora--s0: FAILED, LinAlgError: svd did not converge" in seen.err
    assert "Traceback" not in seen.err
    (record,) = failed(tmp_path)
    assert (record.adapter, record.kind) == ("scalora", "error")
    assert "in broken" in record.traceback
    assert not (tmp_path / "results/mine/checkpoints").exists()

    assert run() == 1
    assert "runs: 0 done, 1 there already, 1 failed" in capsys.readouterr().out
    assert len(calls) == 1, "what comes again is not tried again"
    assert run("--retry-failed") == 1
    assert len(calls) == 2
    monkeypatch.undo()
    assert run("--retry-failed") == 0
    assert failed(tmp_path) == []


def test_what_may_have_changed_is_tried_again_and_goes_on(run, tmp_path, monkeypatch, capsys):
    break_scalora(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"), "merge")
    assert run() == 1
    (record,) = failed(tmp_path)
    assert record.kind == "memory"
    assert (tmp_path / "results/mine/checkpoints/tiny--scalora--s0.pt").exists()
    monkeypatch.undo()
    capsys.readouterr()
    assert run() == 0
    assert "runs: 1 done, 1 there already, 0 failed" in capsys.readouterr().out
    assert failed(tmp_path) == []
    assert not (tmp_path / "results/mine/checkpoints").exists()
    record = json.loads((tmp_path / "results/mine/runs/tiny--scalora--s0.json").read_text())
    assert record["timings"]["legs"] == 2


@pytest.mark.parametrize("part", ["tiny--lora--s0.pt", "tiny--lora--s0.parquet", "tiny--lora--s0.json"])
def test_a_disk_that_fills_up_while_something_is_written_fails_that_run(part, run, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if Path(target).name == part and "failed" not in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert run() == 1
    (record,) = failed(tmp_path)
    assert record.kind == "disk"
    assert record.reason.startswith("cannot write")
    assert "No space left on device" in record.reason
    left = {path.stem for path in (tmp_path / "results/mine/runs").iterdir()}
    assert left == {"tiny--scalora--s0"}, "the other run goes on, and nothing half-written stays"
    monkeypatch.undo()
    assert run() == 0


def test_a_disk_too_full_for_a_failure_is_one_line(run, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert run() == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("rankbench: cannot write")
    assert "No space left on device" in last
    assert not [path for path in (tmp_path / "results/mine").rglob("*") if path.is_file()]


def test_an_edit_back_leaves_no_failure_of_what_was_tried_in_between(run, suite, tmp_path):
    assert run() == 0
    content = yaml.safe_load(suite.read_text())
    content["experiments"]["tiny"]["targets"] = ["quary"]
    suite.write_text(yaml.safe_dump(content))
    assert run() == 1
    assert len(failed(tmp_path)) == 2
    suite.write_text(yaml.safe_dump(TINY))
    assert run() == 0
    assert failed(tmp_path) == []


def test_unusable_data_of_one_experiment_fail_it_alone_and_first(run, suite, tmp_path, monkeypatch, capsys):
    from rankbench.tasks.toy.synthetic import TinyClassification

    prepare = TinyClassification.prepare
    order = []

    def prepared(self, tokenizer):
        order.append("prepare")
        if self.fingerprint()["options"].get("length", 16) == 9:
            raise TaskError(EMPTY)
        return prepare(self, tokenizer)

    monkeypatch.setattr(TinyClassification, "prepare", prepared)
    content = yaml.safe_load(suite.read_text())
    tiny = content["experiments"]["tiny"] | {"task": {"name": "tiny-classification", "length": 13}}
    empty = tiny | {"task": {"name": "tiny-classification", "length": 9}}
    content["experiments"] = {"first": tiny, "second": empty, "third": tiny | {"targets": ["key"]}}
    suite.write_text(yaml.safe_dump(content))
    assert run() == 1
    seen = capsys.readouterr()
    assert "runs: 4 done, 0 there already, 2 failed" in seen.out
    assert {one.task for one in failed(tmp_path)} == {"second"}
    assert {one.reason for one in failed(tmp_path)} == {EMPTY}
    assert len(order) == 2, "once for each content, the adapters of an experiment share it"
    main(["report", str(suite), "--results", str(tmp_path / "results")])
    assert EMPTY in (tmp_path / "results/mine/report.md").read_text()
