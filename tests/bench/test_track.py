"""`--track`: what TensorBoard holds, by its own reader, is what records hold; and nothing depends on it."""

from __future__ import annotations

import errno
import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.tracking import TensorBoardTracker

from rankbench.bench import track
from rankbench.bench.backends.driver import Options, execute
from rankbench.bench.backends.ray.board import Board
from rankbench.bench.records import Curve, Folders, RunRecord, read_record, read_runs
from rankbench.bench.run.job import Job, resolve
from rankbench.bench.suite import load_suite, plan
from rankbench.bench.track import Tracking
from rankbench.bench.track.kinds import Opened
from tests.bench.tiny_suite import numbers, with_changes
from tests.made_records import curve, run_record

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

Points = dict[str, list[tuple[int, float]]]


def logged(folder: Path) -> Points:
    """Series -> step and value, in the order in which TensorBoard has them."""
    reader = events.EventAccumulator(str(folder), size_guidance={events.SCALARS: 0}).Reload()
    return {tag: [(one.step, one.value) for one in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def there(folders: Folders) -> dict[str, Path]:
    """Cell -> the folder of its run in TensorBoard."""
    return {path.name.rpartition("--")[0]: path for path in (folders.root / "tracked/tensorboard").glob("*")}


def expected(record: RunRecord) -> Points:
    """All that the tracker is to have of a finished run."""
    found: Points = {}
    for name in ("loss", "penalty", "gradient_norm", "learning_rate", "seconds"):
        found[f"train/{name}"] = [*zip(record.curve.step, getattr(record.curve, name), strict=True)]
    for seen in record.observations:
        if seen.selection is not None:
            found.setdefault(f"selection/{record.metrics.selection}", []).append((seen.step, seen.selection))
        for kind in ("accumulated_rank", "gradient_rank"):
            for layer, rank in getattr(seen, kind).items():
                found.setdefault(f"{kind}/{layer}", []).append((seen.step, rank))
    metrics = record.metrics
    for step, scores in sorted({metrics.last_step: metrics.last, metrics.best_step: metrics.best}.items()):
        for name, score in scores.items():
            found.setdefault(f"test/{name}", []).append((step, score))
    return found


def check(found: Points, record: RunRecord) -> None:
    wanted = expected(record)
    assert found.keys() == wanted.keys()
    for tag, points in found.items():
        by_step = sorted(points) if tag.startswith("test/") else points
        assert [step for step, _ in by_step] == [step for step, _ in wanted[tag]], tag
        assert [value for _, value in by_step] == pytest.approx([value for _, value in wanted[tag]]), tag


@pytest.fixture
def job(suite: Path) -> Job:
    return resolve(next(plan(load_suite(str(suite)))))


@pytest.fixture
def tracking(tmp_path: Path) -> Tracking:
    return Tracking("tensorboard", Folders(tmp_path / "mine"), "mine")


@pytest.fixture(autouse=True)
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads files of one second in the order of their names, where a process's 10th comes before
    its 9th."""
    writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
    monkeypatch.setattr(writer, "_global_uid", writer.AtomicCounter(0))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tick is logged."""
    monkeypatch.setattr(track, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(track, "TURN_SECONDS", 0.0)


def part(whole: Curve, first: int, last: int) -> Curve:
    return Curve(**{name: getattr(whole, name)[first - 1 : last] for name in Curve.model_fields})


def test_tracked_runs_are_in_the_tracker_and_no_other(suite: Path, tmp_path: Path, at_once: None) -> None:
    """Two of three runs are tracked, for the first is there; and the numbers are those of untracked ones."""
    suite.write_text(
        yaml.safe_dump(with_changes(adapters={"lora": {"rank": 2}, "scalora": None, "full": None}))
    )
    loaded = load_suite(str(suite))
    specs = list(plan(loaded))
    plain, tracked = Folders(tmp_path / "plain/mine"), Folders(tmp_path / "tracked/mine")
    execute(loaded, specs, plain, lambda: False, Options())
    execute(loaded, specs[:1], tracked, lambda: False, Options())
    execute(loaded, specs, tracked, lambda: False, Options(track="tensorboard"))
    assert there(tracked).keys() == {spec.cell for spec in specs[1:]}
    for cell, folder in there(tracked).items():
        record = read_record(tracked.record(cell), RunRecord)
        check(logged(folder), record)
        (config,) = [yaml.safe_load(path.read_text()) for path in folder.glob("*/hparams.yml")]
        assert config["training.steps"] == 4
        assert config["adapter.name"] == record.adapter
        assert config["fingerprint"] == record.fingerprint
    assert [*map(numbers, read_runs(tracked.root))] == [*map(numbers, read_runs(plain.root))]


def test_what_ticks_left_out_comes_with_the_record(job: Job, tracking: Tracking, at_once: None) -> None:
    whole = curve([1 / step for step in range(1, 41)])
    for first, last in [(1, 1), (2, 7), (5, 9), (20, 20), (21, 22)]:
        tracking.tick(job, part(whole, first, last))
    live = logged(there(tracking.folders)[job.cell])
    assert [step for step, _ in live["train/loss"]] == [*range(1, 10)]
    record = run_record("tiny", "lora", 0, curve=whole)
    tracking.end(job, record)
    check(logged(there(tracking.folders)[job.cell]), record)


def test_a_batch_a_second(job: Job, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    now, batches = [100.0], []
    monkeypatch.setattr(track.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        track, "write_atomically", lambda _, state: batches.append(json.loads(state)["logged"])
    )
    whole = curve([1.0] * 40)
    for step in range(1, 41):
        tracking.tick(job, part(whole, 1, step))
        now[0] += 0.125
    assert batches[1:] == [1, 9, 17, 25, 33]
    tracking.close()


def test_parts_that_come_between_two_batches_are_in_the_next(
    job: Job, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker tells them: the steps since the last time alone."""
    now = [100.0]
    monkeypatch.setattr(track.time, "monotonic", lambda: now[0])
    whole = curve([1 / step for step in range(1, 41)])
    for first in range(1, 41, 4):
        tracking.tick(job, part(whole, first, first + 3))
        now[0] += 0.25
    counted = there(tracking.folders)[job.cell] / "rankbench.json"
    assert json.loads(counted.read_text())["logged"] == 36
    tracking.close()
    assert [step for step, _ in logged(counted.parent)["train/loss"]] == [*range(1, 41)]


@pytest.mark.parametrize("counted", [3, 2, 0])
def test_a_run_that_was_killed_goes_on_where_it_was(
    counted: int, job: Job, tracking: Tracking, at_once: None
) -> None:
    """Three steps were logged, the last of which may not have been counted; the checkpoint is of step 1."""
    whole = curve([1 / step for step in range(1, 11)])
    tracking.tick(job, part(whole, 1, 3))
    folder = there(tracking.folders)[job.cell]
    state = folder / "rankbench.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"logged": counted}))
    again = replace(tracking, _open={})
    for step in range(2, 11):
        again.tick(job, part(whole, 1, step))
    record = run_record("tiny", "lora", 0, curve=whole)
    again.end(job, record)
    assert len(there(tracking.folders)) == 1
    check(logged(folder), record)
    assert len([*folder.glob("*/hparams.yml")]) == 1


def test_what_a_trial_scores_is_not_called_a_tests(job: Job, tracking: Tracking, at_once: None) -> None:
    config = {"adapter": {"name": "lora"}, "scored_on": "selection"}
    tracking.end(job, run_record("tiny-trials", "lora-t00", 1000, config=config))
    found = logged(there(tracking.folders)[job.cell])
    assert [score for _, score in found["trial/accuracy"]] == pytest.approx([0.8, 0.8])
    assert not [tag for tag in found if tag.startswith("test/")]


def test_a_run_that_is_done_again_is_not_logged_again(job: Job, tracking: Tracking, at_once: None) -> None:
    record = run_record("tiny", "lora", 0)
    tracking.end(job, record)
    before = logged(there(tracking.folders)[job.cell])
    tracking.tick(job, record.curve)
    tracking.end(job, record)
    assert logged(there(tracking.folders)[job.cell]) == before
    other = replace(job, identity=job.identity | {"seed": 7})
    tracking.end(other, record)
    assert len([*(tracking.folders.root / "tracked/tensorboard").iterdir()]) == 2


def test_stopped_and_gone_on_with(suite: Path, tmp_path: Path, at_once: None) -> None:
    loaded, folders = load_suite(str(suite)), Folders(tmp_path / "mine")
    specs = list(plan(loaded, only="tiny--lora*"))

    def two_are_logged() -> bool:
        return any(
            json.loads(path.read_text())["logged"] >= 2 for path in folders.root.rglob("rankbench.json")
        )

    assert execute(loaded, specs, folders, two_are_logged, Options(track="tensorboard")).interrupted
    (folder,) = there(folders).values()
    begun = logged(folder)["train/loss"]
    assert [step for step, _ in begun] == [1, 2]
    execute(loaded, specs, folders, lambda: False, Options(track="tensorboard"))
    (record,) = read_runs(folders.root)
    assert record.timings.legs == 2
    check(logged(folder), record)


def failing(after: int) -> Any:
    """TensorBoard's log, on a disk that fills up after as many calls."""
    real, calls = TensorBoardTracker.log, iter(range(1000))

    def log(tracker: TensorBoardTracker, *given: Any, **named: Any) -> None:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tracker, *given, **named)

    return log


@pytest.mark.parametrize("after", [0, 3, 8])
def test_a_tracker_that_fails_costs_no_run(
    after: int, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TensorBoardTracker, "log", failing(after))
    assert run("--backend", "here", "--track", "tensorboard") == 0
    seen = capsys.readouterr()
    assert "runs: 2 done" in seen.out
    told = [line for line in seen.err.splitlines() if "track" in line]
    assert told == [
        "rankbench: tracking with tensorboard has ended: [Errno 28] No space left on device; the runs go on"
    ]
    assert len([*read_runs(tmp_path / "results/mine")]) == 2


def test_a_full_disk_is_told_in_one_line_though_a_thread_finds_it(
    job: Job,
    tracking: Tracking,
    at_once: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    said: list[object] = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    whole = curve([1.0] * 3)
    tracking.tick(job, part(whole, 1, 1))
    files = importlib.import_module("tensorboard.compat.tensorflow_stub.io.gfile")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.LocalFileSystem, "append", full)
    for step in (2, 3):
        tracking.tick(job, part(whole, step, step))
    tracking.end(job, run_record("tiny", "lora", 0, curve=whole))
    assert said == []
    assert capfd.readouterr().err == (
        "rankbench: tracking with tensorboard has ended: [Errno 28] No space left on device; the runs go on\n"
    )
    thread = threading.Thread(target=full)
    thread.start()
    thread.join()
    assert len(said) == 1, "other threads are heard"


def test_a_tracker_that_cannot_begin_costs_no_run(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results/mine").mkdir(parents=True)
    (tmp_path / "results/mine/tracked").write_text("")
    assert run("--backend", "here", "--track", "tensorboard") == 0
    seen = capsys.readouterr()
    assert "runs: 2 done" in seen.out
    assert seen.err.count("tracking with tensorboard has ended") == 1


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_missing_tracker_names_its_extra(
    name: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert run("--track", name) == 2
    assert capsys.readouterr().err == (
        f"rankbench: --track {name} needs {name}: pip install 'rankbench[{name}]'\n"
    )
    assert not (tmp_path / "results").exists()


def test_an_unknown_tracker_is_one_line(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--track", "tensorbord") == 2
    assert "'tensorbord' is not one of 'tensorboard', 'wandb', 'mlflow', 'trackio'" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def told_of_two(job: Job, tmp_path: Path, steps: int, after: Callable[[], None] = lambda: None) -> Tracking:
    """A tracker that knows one open run a process, told of two runs step by step in turn."""
    tracking = Tracking("mlflow", Folders(tmp_path / "mine"), "mine")
    other = replace(job, spec=job.spec.model_copy(update={"seed": 1}))
    whole = curve([1.0] * steps)
    for step in range(1, steps + 1):
        for one in (job, other):
            tracking.tick(one, part(whole, step, step))
        after()
    return tracking


def test_a_tracker_of_one_run_a_process_is_given_one(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: None
) -> None:
    """Two runs under way take turns, each going on in its own run of the tracker."""
    open_now: list[str] = []
    seen: dict[str, list[int]] = {}
    keys: Iterator[str] = iter("ab")

    def opened(name: str, entry: Any) -> Opened:
        key = next(keys) if entry.is_new else entry.key
        open_now.append(key)
        assert open_now == [key]
        return Opened(
            lambda values, step: seen.setdefault(key, []).append(step), lambda: open_now.remove(key), key
        )

    monkeypatch.setattr(track, "opened", opened)
    told_of_two(job, tmp_path, 3).close()
    assert not open_now
    assert seen == {"a": [1, 2, 3], "b": [1, 2, 3]}


def test_workers_do_not_have_such_a_tracker_opened_at_each_of_their_steps(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them, five steps a second each, for a minute: opening is a few requests to a server."""
    now, begun, seen = [100.0], [], {}
    keys: Iterator[str] = iter("ab")

    def opened(name: str, entry: Any) -> Opened:
        begun.append(key := next(keys) if entry.is_new else entry.key)
        return Opened(lambda _, step: seen.setdefault(key, []).append(step), lambda: None, key)

    monkeypatch.setattr(track, "opened", opened)
    monkeypatch.setattr(track.time, "monotonic", lambda: now[0])
    tracking = told_of_two(job, tmp_path, 300, lambda: now.append(now.pop() + 0.2))
    assert len(begun) <= 2 + 2 * 60 / track.TURN_SECONDS
    tracking.close()
    assert seen == {"a": [*range(1, 301)], "b": [*range(1, 301)]}


def test_nothing_that_ray_runs_tell_is_lost() -> None:
    board, whole = Board(), curve([1.0] * 3)
    for first, last in [(1, 2), (3, 3)]:
        board.tell("a", part(whole, first, last))
    board.tell("b", part(whole, 1, 1))
    heard = {cell: [one.step for one in told] for cell, told in board.news().items()}
    assert heard == {"a": [[1, 2], [3]], "b": [[1]]}
    assert board.news() == {}


@pytest.mark.slow
def test_workers_tell_of_every_step(suite: Path, run: Any, tmp_path: Path) -> None:
    training = {"steps": 60, "batch_size": 4, "learning_rate": 1e-3}
    suite.write_text(yaml.safe_dump(with_changes(training=training)))
    assert run("--workers", "2", "--threads", "1", "--track", "tensorboard") == 0
    folders = Folders(tmp_path / "results/mine")
    records = {f"{one.task}--{one.adapter}--s{one.seed}": one for one in read_runs(folders.root)}
    assert there(folders).keys() == records.keys()
    for cell, folder in there(folders).items():
        check(logged(folder), records[cell])
